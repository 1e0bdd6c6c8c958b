-- Move due messages from the delayed sets to their queues, and tell what every worker has to know now and then.
--
-- KEYS   1 {ns}:topology   2 {ns}:due   3 {ns}:upkeep   then q, m, d, z, b of each queue
-- ARGV   1 group   2 how many to move at most   3 who asks   4… name of each queue
-- Returns {generation, epoch, moved, next due in ms or -1, now in ms, {names of queues to ask for next, …}}
--
-- `{ns}:due` is the index: a queue that it does not hold costs nothing, so any worker does this for all queues of
-- its namespace. Several queues that are due share a call, so that a large one does not hold up the others. While
-- one worker moves messages the others leave it to that one; they take over a tick after it was last heard of.
--
-- Add first, remove second; the no-op ZREM exempts the move from the memory limit, or a server full of delayed
-- messages could never drain. A queue that cannot take its messages (gone, or not ours) keeps them, and is looked at
-- again a second later. A parked message only ever moves to the dead letters, when there is room.

-- include placement
-- include clock
-- include entries
-- include delayed
-- include dead_letters

local TICK_MS = 250
local STUCK_PAUSE_MS = 1000
local MOST_BYTES = 4 * 1024 * 1024
local MOST_NAMES = 64

local due, upkeep, group, worker = KEYS[2], KEYS[3], ARGV[1], ARGV[3]
local now = read_clock()

local function holds(key, wanted)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or found == wanted
end

local function find_due()
  local found = {}
  for at = 4, #ARGV do
    local when = tonumber(redis.call('ZSCORE', due, ARGV[at]) or '')
    if when and when <= now then
      local place = 4 + 5 * (at - 4)
      found[#found + 1] = {
        name = ARGV[at], stream = KEYS[place], meta = KEYS[place + 1], dead = KEYS[place + 2],
        index = KEYS[place + 3], bodies = KEYS[place + 4], due = due,
      }
    end
  end
  return found
end

-- When another worker that is at it has to be heard of again; nil: nobody is.
local function find_other()
  local last = redis.call('HMGET', upkeep, 'worker', 'ran_ms')
  local ran = tonumber(last[2] or '')
  if ran and last[1] ~= worker and ran <= now and now - ran < TICK_MS then
    return ran + TICK_MS
  end
end

-- Returns the error reply for one that lies elsewhere than its caller says.
local function find_misplaced(queues)
  for _, queue in ipairs(queues) do
    local tag = redis.pcall('HGET', queue.meta, 'tag')
    queue.astray = type(tag) ~= 'table' and check_place(tag, queue.meta, queue.stream)
    if queue.astray and is_elsewhere(queue.astray) then
      return queue.astray
    end
  end
end

local function is_whole(queue)
  return not queue.astray and redis.call('TYPE', queue.stream).ok == 'stream' and holds(queue.index, 'zset')
    and holds(queue.bodies, 'hash') and holds(queue.meta, 'hash') and holds(queue.dead, 'stream')
end

local function unpack_body(packed)
  local read, body = pcall(cmsgpack.unpack, packed)
  return read and type(body) == 'table' and body[6] and body
end

local function add_copy(queue, member, packed)
  local stream, body = queue.stream, unpack_body(packed)
  if body and body[8] then
    redis.call('ZADD', queue.index, PARKED, member) -- whatever brought it to its time, it is never handed out
    return false
  elseif body then
    local words = {'id', body[1], 'type', body[2], 'data', body[3], 'headers', body[4]}
    if body[6] ~= '' then
      words[9], words[10] = 'expires', body[6]
    end
    if body[5] ~= '0' then
      words[#words + 1], words[#words + 2] = 'attempt', body[5]
    end
    redis.call('XADD', stream, '*', unpack(words))
  else -- somebody else wrote it: the worker that reads it will say so
    redis.call('XADD', stream, '*', 'packed', packed)
  end
  return true
end

local function take_out(queue, member)
  redis.call('ZREM', queue.index, member)
  redis.call('HDEL', queue.bodies, member)
end

local function promote(queue, share)
  local moved, vanished, bytes = 0, 0, 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', queue.index, '-inf', now, 'LIMIT', 0, share)) do
    local packed = redis.call('HGET', queue.bodies, member)
    if not packed or add_copy(queue, member, packed) then
      take_out(queue, member)
      moved, vanished = moved + 1, vanished + (packed and 0 or 1)
      bytes = bytes + (packed and #packed or 0)
    end
    if bytes > MOST_BYTES then
      break
    end
  end
  if vanished > 0 then
    redis.call('HINCRBY', queue.meta, 'vanished', vanished)
  end
  return moved
end

local function move_parked(queue, share)
  local letters = open_dead_letters(queue, queue.name, now)
  local most = math.min(share, math.max(letters.room or share, 0))
  if most == 0 then
    return
  end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', queue.index, PARKED, '+inf', 'LIMIT', 0, most)) do
    local body = unpack_body(redis.call('HGET', queue.bodies, member) or '')
    if body and body[8] then
      unpark(letters, body)
    end
    take_out(queue, member)
  end
end

local function plan_next(queue)
  local next = tonumber(redis.call('ZRANGE', queue.index, 0, 0, 'WITHSCORES')[2] or '')
  if not next then
    redis.call('ZREM', due, queue.name)
    return
  end
  if redis.call('ZCOUNT', queue.index, PARKED, '+inf') > 0 then
    next = math.min(next, now + PARKED_PAUSE_MS)
  end
  redis.call('ZADD', due, next, queue.name)
end

local function promote_all(queues)
  local moved = 0
  local share = math.max(math.floor(tonumber(ARGV[2]) / #queues), 1)
  redis.call('ZREM', due, '')
  for _, queue in ipairs(queues) do
    if is_whole(queue) then
      local now_moved = promote(queue, share)
      if now_moved < share then
        move_parked(queue, share - now_moved)
      end
      moved = moved + now_moved
      plan_next(queue)
    else
      redis.call('ZADD', due, now + STUCK_PAUSE_MS, queue.name)
    end
  end
  redis.call('HSET', upkeep, 'worker', worker, 'ran_ms', string.format('%.0f', now))
  return moved
end

local moved, other = 0, nil
local queues = find_due()
local misplaced = find_misplaced(queues)
if misplaced then
  return misplaced
elseif #queues > 0 then
  other = find_other()
  moved = other and 0 or promote_all(queues)
end

local soonest = tonumber(redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or '-1')
if other then
  soonest = math.max(soonest, other)
end
local waiting = redis.call('ZCOUNT', due, '-inf', now)
local skipped = waiting > MOST_NAMES and now % (waiting - MOST_NAMES + 1) or 0
local names = redis.call('ZRANGEBYSCORE', due, '-inf', now + TICK_MS, 'LIMIT', skipped, MOST_NAMES)
local record = redis.pcall('HMGET', KEYS[1], 'generation', 'epoch')
return {tonumber(not record.err and record[1] or '0'), not record.err and record[2] or '', moved, soonest, now, names}
