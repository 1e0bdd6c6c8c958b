-- Find messages that were handed out and that nobody holds any more, and make them claimable.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2 suspects   3 cursor, '0-0' to start   4 how many pending entries to look at
-- Returns {cursor to go on from, '0-0' at the end; how many were rescued}, or false: not applied
--
-- That is what deleting a consumer that holds messages leaves behind. The stream holds only what is not acknowledged,
-- so an entry up to the last one delivered that is not pending is lost to everybody. They lie in the gaps between the
-- pending ids: asking for the gaps costs no message body, however many wait or are in flight. One hand-out is
-- counted, because it may have been run, and so they come under suspicion.

-- include placed
-- include entries
-- include groups

local MOST_RESCUED = 100

local stream, meta = KEYS[1], KEYS[2]
local group, suspects, cursor, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local lease = redis.call('HGET', meta, 'visibility_ms')
if not lease or redis.call('TYPE', stream).ok ~= 'stream' then
  return false
end
local last = find_last_delivered(stream, group)
if not last then
  return false
end

local rescued = 0

-- Returns how far it came: to the end of the gap, unless there was too much in it.
local function rescue_between(first, to, after)
  while rescued < MOST_RESCUED do
    local entry = redis.call('XRANGE', stream, '(' .. first, to, 'COUNT', 1)[1]
    if not entry then
      return after
    end
    first = entry[1]
    redis.call('XCLAIM', stream, group, suspects, 0, first, 'IDLE', lease, 'RETRYCOUNT', 1, 'FORCE', 'JUSTID')
    rescued = rescued + 1
  end
  return first
end

local pending = redis.call('XPENDING', stream, group, '(' .. cursor, '+', count)
for _, row in ipairs(pending) do
  cursor = rescue_between(cursor, '(' .. row[1], row[1])
  if rescued == MOST_RESCUED then
    break
  end
end
if rescued < MOST_RESCUED and #pending < count then
  cursor = rescue_between(cursor, last, '0-0')
end
if rescued > 0 then
  redis.call('HINCRBY', meta, 'rescued', rescued)
end
return {cursor, rescued}
