-- Pause queues or let them go on. Senders do not notice; workers stop reading a paused queue within a second.
--
-- KEYS   1… {ns}:m:<queue>
-- ARGV   1 'paused' or 'active'
-- Returns for each the state it had, '' where it is not applied; a queue on its way out keeps its state

local answer = {}
for at, meta in ipairs(KEYS) do
  local state = redis.call('HGET', meta, 'state') or ''
  answer[at] = state
  if state == 'active' or state == 'paused' then
    redis.call('HSET', meta, 'state', ARGV[1])
  end
end
return answer
