-- Give the apply lock its whole lifetime again, if it is still ours.
--
-- KEYS   1 {ns}:lock
-- ARGV   1 lock value   2 lifetime in ms
-- Returns {'done'} | {'lost', lock value of whoever has it now, or ''}

local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then
  return {'lost', held or ''}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'done'}
