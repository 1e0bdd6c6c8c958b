-- Publish ephemeral messages, if their senders know the channels as they are applied. Not safe to repeat.
--
-- KEYS   1 {ns}:topology
-- ARGV   for each: the field of its digest (@name), the digest its sender knows ('' if none), channel, payload
-- Returns for each the number of receivers, or the digest as it is now (text) and nothing was published
--
-- Channels know no database number: two databases of one server share them, and so do equal namespaces there.

local answer = {}
for at = 1, #ARGV, 4 do
  local digest = redis.call('HGET', KEYS[1], ARGV[at]) or ''
  if digest == ARGV[at + 1] then
    answer[#answer + 1] = redis.call('PUBLISH', ARGV[at + 2], ARGV[at + 3])
  else
    answer[#answer + 1] = digest
  end
end
return answer
