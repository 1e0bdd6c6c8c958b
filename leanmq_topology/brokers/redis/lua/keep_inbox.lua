-- Renew a reply inbox and drop what its client has read.
--
-- KEYS   1 {ns}:r:<client>
-- ARGV   1 lifetime in ms   2 id of the last entry read, '0' for none
-- Returns 1, or 0: it is gone
--
-- What is trimmed is what the client has: nobody else reads it. An entry later than the last one read stays.

if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then
  return 0
end
if ARGV[2] ~= '0' then
  redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
end
return 1
