-- Acknowledge and forget deliveries by explicit wish, counted apart from success.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2 consumer   then for each: entry id, delivery count
-- Returns for each 1 (was ours and is gone) or 0 (somebody else's by now; nothing was changed)

local stream, meta = KEYS[1], KEYS[2]
local group, consumer = ARGV[1], ARGV[2]

local function is_ours(id, count)
  local held = redis.call('XPENDING', stream, group, id, id, 1)[1]
  return held and held[2] == consumer and held[4] == count
end

local answer, removed = {}, 0
for at = 3, #ARGV, 2 do
  local ours = is_ours(ARGV[at], tonumber(ARGV[at + 1]))
  answer[#answer + 1] = ours and 1 or 0
  if ours then
    redis.call('XACK', stream, group, ARGV[at])
    removed = removed + redis.call('XDEL', stream, ARGV[at])
  end
end
if removed > 0 then
  redis.call('HINCRBY', meta, 'discarded', removed)
end
return answer
