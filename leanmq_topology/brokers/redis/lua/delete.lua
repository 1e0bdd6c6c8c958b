-- Acknowledge deliveries and keep no copy of them, even where the queue has a history. Safe to repeat.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:c:<queue>   4 {ns}:t:<queue>
-- ARGV   1 group   2 how many of them are late: their lease had lapsed   3… entry ids, at most 1,000
-- Returns how many were still there
--
-- As with ack there is no ownership check, and XACK comes first, which a server over its memory limit lets through.

-- include placement
-- include entries
-- include crashes
-- include acknowledged

local FIRST = 3
local stream, meta, crashes, purges = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- Like this, what holds something else must fail here and not between two writes.
local astray = check_place(redis.call('HGET', meta, 'tag'), meta, stream)
if astray then
  return astray
end
local crashed = redis.call('EXISTS', crashes) == 1

local done = redis.call('XACK', stream, ARGV[1], unpack(ARGV, FIRST))
for at = FIRST, crashed and #ARGV or 0 do
  local fields = read_entry(stream, ARGV[at])
  if fields then
    forget_crashes(crashes, ARGV[at], fields)
  end
end
local removed = redis.call('XDEL', stream, unpack(ARGV, FIRST))
note_acknowledged(meta, purges, done, removed, ARGV[2], FIRST)
return removed
