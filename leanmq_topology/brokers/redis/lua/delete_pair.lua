-- Delete a queue pair that no topology declares, with all its messages.
--
-- KEYS   1 {ns}:topology   2 {ns}:pairs   3 {ns}:due   4 {ns}:sent   then q, m, a, z, b, c, t and at last d of the queue
-- ARGV   1 queue   2 '1': its dead letters too
-- Returns {'deleted', 1 or 0 (there was nothing)} | {'declared'}
--
-- UNLINK takes the same time however much it is. The pair's row goes last: it says what is left.

-- include look_call
-- include placed
-- include uncounting

local queue, dead_too = ARGV[1], ARGV[2] == '1'

if redis.call('HEXISTS', KEYS[1], '@' .. queue) == 1 then
  return {'declared'}
end
local row = redis.call('HGET', KEYS[2], queue)
if not row or (not dead_too and string.find(row, ' dead', 1, true)) then
  return {'deleted', 0}
end
forget_counter(KEYS[6], KEYS[4])
for at = 5, dead_too and #KEYS or #KEYS - 1 do
  redis.call('UNLINK', KEYS[at])
end
redis.call('ZREM', KEYS[3], queue)
if dead_too then
  redis.call('HDEL', KEYS[2], queue)
else
  local tag = string.match(KEYS[5], '^{([^{}]*)}')
  if tag ~= string.match(KEYS[1], '^{([^{}]*)}') then
    redis.call('HSET', KEYS[6], 'tag', tag) -- all that is left of the record: where the dead letters lie
  end
  redis.call('HSET', KEYS[2], queue, string.match(row, '^%d+') .. ' dead')
end
call_to_look(KEYS[3])
return {'deleted', 1}
