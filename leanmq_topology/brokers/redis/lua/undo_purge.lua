-- Bring back what a purge took, a bounded part at a time: all at once where the queue is empty.
--
-- KEYS   1 {ns}:t:<queue>   2 {ns}:due   3 {ns}:m:<queue>   4 {ns}:q:<queue>   5 {ns}:z:<queue>   6 {ns}:b:<queue>
--        7 {ns}:c:<queue>   8 9 10 11 the trash of 4 5 6 7
-- ARGV   1 group   2 queue   3 purge id   4 how many messages to move at most, where they are moved one by one
-- Returns {messages brought back, messages left} | {'unknown'}: no such purge, or too old | {'missing'}: not applied
--
-- Into an empty queue the keys are renamed back: entries keep their ids, so work that was in flight can still be
-- acknowledged. Otherwise each message is added behind the others under its own id; a hand-out before the purge
-- counts as an attempt. What was acknowledged since the purge does not come back. Moving adds before it removes,
-- and is refused on a server over its memory limit, like a send.

-- include placed
-- include clock
-- include entries
-- include attempts
-- include delayed
-- include doorbell

local purges, meta, stream = KEYS[1], KEYS[3], KEYS[4]
local delayed, bodies, crashes = KEYS[5], KEYS[6], KEYS[7]
local old_stream, old_delayed, old_bodies, old_crashes = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local group, queue, purge_id, budget = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if redis.call('HEXISTS', purges, purge_id) == 0 or redis.call('EXISTS', old_stream, old_delayed) == 0 then
  return {'unknown'}
end
if redis.call('TYPE', stream).ok ~= 'stream' or redis.call('HLEN', meta) == 0 then
  return {'missing'}
end

-- Like HLEN, these fail here and not between two writes if a key holds something else.
redis.call('ZCARD', KEYS[2])
redis.call('HLEN', bodies)
redis.call('HLEN', crashes)

-- What is parked lies at a time that never comes; its move is tried soon all the same.
local function note_next_due()
  local next = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  if next then
    local now = read_clock()
    note_due(KEYS[2], queue, math.min(tonumber(next), now + PARKED_PAUSE_MS), now)
  end
end

local function forget_purge()
  redis.call('UNLINK', old_stream, old_delayed, old_bodies, old_crashes)
  redis.call('HDEL', purges, purge_id)
  for _, value in ipairs(redis.call('HVALS', purges)) do
    if string.sub(value, 1, 1) == '[' then
      return
    end
  end
  redis.call('UNLINK', purges)
end

local function bring_back_whole()
  local last = find_value(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
  for at = 4, 7 do
    if redis.call('EXISTS', KEYS[at + 4]) == 1 then
      redis.call('RENAME', KEYS[at + 4], KEYS[at])
      redis.call('PERSIST', KEYS[at])
    end
  end
  redis.call('XSETID', stream, last)
  for _, field in ipairs(redis.call('HKEYS', purges)) do
    if string.find(field, '-', 1, true) then
      redis.call('XACK', stream, group, field)
      redis.call('XDEL', stream, field)
    end
  end
  return redis.call('XLEN', stream) + redis.call('ZCARD', delayed)
end

local function copy_crashes(id)
  local count = id and redis.call('HGET', old_crashes, id)
  if count then
    redis.call('HSET', crashes, id, count)
  end
end

local function move_entries()
  local moved, gone = 0, {}
  for _, entry in ipairs(redis.call('XRANGE', old_stream, '-', '+', 'COUNT', budget)) do
    local id, fields = entry[1], entry[2]
    if redis.call('HEXISTS', purges, id) == 0 then
      local held = redis.call('XPENDING', old_stream, group, id, id, 1)[1]
      if held then
        local failed = tonumber(find_value(fields, 'attempt') or '') or 0
        set_attempts(fields, string.format('%.0f', failed + held[4]))
      end
      write_copy(stream, fields)
      copy_crashes(find_value(fields, 'id'))
      moved = moved + 1
    end
    gone[#gone + 1] = id
  end
  for _, id in ipairs(gone) do
    redis.call('XDEL', old_stream, id)
  end
  return moved, #gone
end

local function move_delayed(room)
  local moved = 0
  local rows = redis.call('ZRANGE', old_delayed, 0, room - 1, 'WITHSCORES')
  for at = 1, #rows, 2 do
    local packed = redis.call('HGET', old_bodies, rows[at])
    if packed then
      put_delayed(delayed, bodies, rows[at], cmsgpack.unpack(packed), rows[at + 1])
      moved = moved + 1
    end
    redis.call('ZREM', old_delayed, rows[at])
    redis.call('HDEL', old_bodies, rows[at])
  end
  return moved
end

local moved, left = 0, 0
if redis.call('XLEN', stream) + redis.call('ZCARD', delayed) == 0 then
  moved = bring_back_whole()
else
  local seen
  moved, seen = move_entries()
  if seen < budget then
    moved = moved + move_delayed(budget - seen)
  end
  left = redis.call('XLEN', old_stream) + redis.call('ZCARD', old_delayed)
end
note_next_due()
if left == 0 then
  forget_purge()
end
return {moved, left}
