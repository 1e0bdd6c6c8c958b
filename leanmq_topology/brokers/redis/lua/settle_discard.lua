-- Acknowledge and forget deliveries by explicit wish, counted apart from success.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:c:<queue>
-- ARGV   1 group   2 consumer   then for each: entry id, delivery count, '1' if it had expired, error (JSON) to be told
--        to who waits for a reply, '' if nobody does
-- Returns for each 1 (was ours and is gone) or 0 (somebody else's by now; nothing was changed)

-- include placement
-- include ownership
-- include entries
-- include replies
-- include requests
-- include crashes

local stream, meta, crashes = KEYS[1], KEYS[2], KEYS[3]
local group, consumer = ARGV[1], ARGV[2]
local crashed = redis.call('EXISTS', crashes) == 1

-- Like this, what holds something else must fail here and not between two writes.
local astray = check_place(redis.call('HGET', meta, 'tag'), meta, stream)
if astray then
  return astray
end

local answer, removed, expired = {}, 0, 0
for at = 3, #ARGV, 4 do
  local id = ARGV[at]
  local ours = is_ours(stream, group, consumer, id, tonumber(ARGV[at + 1]))
  answer[#answer + 1] = ours and 1 or 0
  if ours then
    local fields = (crashed or ARGV[at + 3] ~= '') and read_entry(stream, id)
    if fields and crashed then
      forget_crashes(crashes, id, fields)
    end
    redis.call('XACK', stream, group, id)
    if fields and ARGV[at + 3] ~= '' then
      tell_requester(meta, fields, ARGV[at + 3], ARGV[at + 2] == '1' and 'expired' or 'discarded')
    end
    removed = removed + redis.call('XDEL', stream, id)
    expired = expired + tonumber(ARGV[at + 2])
  end
end
if removed > 0 then
  redis.call('HINCRBY', meta, 'discarded', removed)
end
if expired > 0 then
  redis.call('HINCRBY', meta, 'expired', expired)
end
return answer
