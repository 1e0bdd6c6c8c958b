-- Renew leases: each runs its whole length again from now.
--
-- KEYS   1 {ns}:q:<queue>
-- ARGV   1 group   2 consumer   then for each: entry id, delivery count
-- Returns for each 1 (was ours and is renewed) or 0 (somebody else's by now; nothing was changed)
--
-- XCLAIM with JUSTID sets the idle time back and leaves the delivery count alone.

-- include ownership

local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local answer = {}
for at = 3, #ARGV, 2 do
  local ours = is_ours(stream, group, consumer, ARGV[at], tonumber(ARGV[at + 1]))
  answer[#answer + 1] = ours and 1 or 0
  if ours then
    redis.call('XCLAIM', stream, group, consumer, 0, ARGV[at], 'JUSTID')
  end
end
return answer
