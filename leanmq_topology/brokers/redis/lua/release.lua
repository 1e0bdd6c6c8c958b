-- Hand back deliveries that were never started: at once claimable by anyone, and this hand-out does not count.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:due
-- ARGV   1 group   2 consumer   3 nobody   4 suspects   then for each: entry id, delivery count
-- Returns for each 1 (was ours and is free) or 0 (somebody else's by now; nothing was changed)
--
-- They are held by `nobody`, or by `suspects` if an earlier hand-out is still counted, until somebody claims them, so that the one who gave them back cannot take them for
-- its own again, uncounted. The lease comes from the queue's own record, never from the caller: idle by that much,
-- every claimer takes it.

-- include placement
-- include ownership
-- include look_call

local stream, meta = KEYS[1], KEYS[2]
local group, consumer, nobody, suspects = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local found = redis.call('HMGET', meta, 'visibility_ms', 'tag')
local astray = check_place(found[2], meta, stream)
if astray then
  return astray
end
local lease = found[1]
local answer, freed = {}, false
for at = 5, #ARGV, 2 do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local ours = lease and is_ours(stream, group, consumer, id, count)
  answer[#answer + 1] = ours and 1 or 0
  if ours then
    freed = true
    local holder = count > 1 and suspects or nobody
    redis.call('XCLAIM', stream, group, holder, 0, id, 'IDLE', lease, 'RETRYCOUNT', count - 1, 'JUSTID')
  end
end
if freed then
  call_to_look(KEYS[3])
end
return answer
