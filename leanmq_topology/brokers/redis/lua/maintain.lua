-- Move due messages from the delayed sets to their queues, soonest due queue first.
--
-- KEYS   1 {ns}:topology   2 {ns}:due   then q, z, b of each queue
-- ARGV   1 group   2 how many to move at most   3… name of each queue
-- Returns {generation, moved, next due in ms or -1, now in ms}
--
-- Add first, remove second; the no-op XACK exempts the move from the memory limit, or a server full of delayed
-- messages could never drain. A queue whose stream is gone keeps its delayed messages until it is applied again.

local group, budget = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local waiting = {}
for at = 3, #ARGV do
  local when = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[at]) or '')
  if when then
    waiting[#waiting + 1] = {when, ARGV[at], 3 + 3 * (at - 3)}
  end
end
table.sort(waiting, function(one, other)
  return one[1] < other[1]
end)

local function promote(name, place)
  local stream, index, bodies = KEYS[place], KEYS[place + 1], KEYS[place + 2]
  local moved = 0
  redis.call('XACK', stream, group, '0-0')
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, budget)) do
    local packed = redis.call('HGET', bodies, member)
    if packed then
      local body = cmsgpack.unpack(packed)
      if not redis.call('XADD', stream, 'NOMKSTREAM', '*', 'id', body[1], 'type', body[2], 'data', body[3],
        'headers', body[4], 'attempt', body[5], 'expires', body[6]) then
        return moved, nil
      end
    end
    redis.call('ZREM', index, member)
    redis.call('HDEL', bodies, member)
    moved = moved + 1
  end
  local next = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')[2]
  if next then
    redis.call('ZADD', KEYS[2], next, name)
  else
    redis.call('ZREM', KEYS[2], name)
  end
  return moved, tonumber(next or '')
end

local total, soonest = 0, nil
for _, queue in ipairs(waiting) do
  local when = queue[1]
  if when <= now and budget > 0 then
    local moved
    moved, when = promote(queue[2], queue[3])
    total, budget = total + moved, budget - moved
  end
  if when and (not soonest or when < soonest) then
    soonest = when
  end
end
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
return {generation, total, soonest or -1, now}
