-- Renew leases: each runs its whole length again from now.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2 consumer   then for each: entry id, delivery count
-- Returns for each 1 (was ours and is renewed) or 0 (somebody else's by now, or gone)
--
-- XCLAIM with JUSTID sets the idle time back and leaves the delivery count alone. Of an entry that somebody deleted
-- servers since 7.0 drop the lease instead, which is counted as vanished.

-- include placement
-- include ownership

local stream, meta, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]

local astray = check_place(redis.call('HGET', meta, 'tag'), meta, stream)
if astray then
  return astray
end

local answer, vanished = {}, 0
for at = 3, #ARGV, 2 do
  local ours = is_ours(stream, group, consumer, ARGV[at], tonumber(ARGV[at + 1]))
  local kept = ours and #redis.call('XCLAIM', stream, group, consumer, 0, ARGV[at], 'JUSTID') == 1
  answer[#answer + 1] = kept and 1 or 0
  vanished = vanished + (ours and not kept and 1 or 0)
end
if vanished > 0 then
  redis.call('HINCRBY', meta, 'vanished', vanished)
end
return answer
