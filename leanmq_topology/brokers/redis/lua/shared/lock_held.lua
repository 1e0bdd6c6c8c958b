-- For every step of an apply: who lost the lock, or planned from a generation that is not the last one any more,
-- writes nothing. Ends the script then. KEYS 1 the lock, 2 the record; ARGV 1 the lock's value, 3 the generation.
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then
  return {'lost', held or ''}
end
local generation = redis.call('HGET', KEYS[2], 'generation') or '0'
if generation ~= ARGV[3] then
  return {'moved', generation}
end
