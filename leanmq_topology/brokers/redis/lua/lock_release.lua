-- Let the apply lock go, if it is still ours.
--
-- KEYS   1 {ns}:lock
-- ARGV   1 lock value
-- Returns 1 when it was ours, 0 when it was not (and nothing was written)

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
