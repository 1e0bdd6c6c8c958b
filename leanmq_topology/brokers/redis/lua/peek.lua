-- Look at the messages of a queue where they lie: in flight, ready, delayed. Nothing is handed out or counted.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:z:<queue>   3 {ns}:b:<queue>   4 {ns}:m:<queue>
-- ARGV   1 group   2 how many of each at most
-- Returns {now in ms,
--          {{entry id, fields, consumer, idle in ms, delivery count}, …} in flight, oldest first,
--          {{entry id, fields}, …} ready, next first,
--          {{due in ms or -1: parked, fields}, …} delayed, soonest first} or false: not applied

-- include placed
-- include clock
-- include entries
-- include groups
-- include delayed

local stream, group, count = KEYS[1], ARGV[1], tonumber(ARGV[2])

local after = redis.call('TYPE', stream).ok == 'stream' and find_last_delivered(stream, group)
if not after then
  return false
end

local flying = {}
for _, held in ipairs(redis.call('XPENDING', stream, group, '-', '+', count)) do
  local fields = read_entry(stream, held[1])
  if fields then
    flying[#flying + 1] = {held[1], fields, held[2], held[3], held[4]}
  end
end
local ready = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', count)
local waiting = {}
local rows = redis.call('ZRANGE', KEYS[2], 0, count - 1, 'WITHSCORES')
for at = 1, #rows, 2 do
  local packed = redis.call('HGET', KEYS[3], rows[at])
  if packed then
    local body = cmsgpack.unpack(packed)
    local due = tonumber(rows[at + 1])
    waiting[#waiting + 1] = {due < tonumber(PARKED) and due or -1, {'id', body[1], 'type', body[2], 'data', body[3], 'headers',
      body[4], 'attempt', body[5], 'expires', body[6]}}
  end
end
return {read_clock(), flying, ready, waiting}
