-- After the server's clock went back: leases that seem to have begun in the future begin now.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2 cursor, '0-0' to start   3 how many pending entries to look at
-- Returns {cursor to go on from, '0-0' at the end; how many were set}
--
-- Such a lease has no idle time and would not lapse before the clock catches up. One that began this very moment looks
-- the same, and setting it changes nothing. Owner and delivery count stay.

-- include placed

local stream, group, cursor, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

local pending = redis.pcall('XPENDING', stream, group, '(' .. cursor, '+', count)
if pending.err then
  return {'0-0', 0}
end
local set = 0
for _, row in ipairs(pending) do
  cursor = row[1]
  if row[3] == 0 then
    redis.call('XCLAIM', stream, group, row[2], 0, row[1], 'IDLE', 0, 'JUSTID')
    set = set + 1
  end
end
return {#pending < count and '0-0' or cursor, set}
