-- Pause queues or let them go on. Senders do not notice; workers are told, and stop reading a paused queue.
--
-- KEYS   1 {ns}:due   2… {ns}:m:<queue>
-- ARGV   1 'paused' or 'active'
-- Returns for each the state it had, '' where it is not applied; a queue on its way out keeps its state

-- include look_call

local answer = {}
for at = 2, #KEYS do
  local state = redis.call('HGET', KEYS[at], 'state') or ''
  answer[#answer + 1] = state
  if state == 'active' or state == 'paused' then
    redis.call('HSET', KEYS[at], 'state', ARGV[1])
  end
end
call_to_look(KEYS[1])
return answer
