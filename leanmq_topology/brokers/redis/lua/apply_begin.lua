-- First write of an apply: claim the namespace for its topology and leave word of what is about to happen.
-- From here on a killed apply is visible, and no other topology can take the namespace.
--
-- KEYS   1 {ns}:lock   2 {ns}:topology   3 {ns}:plan   4 {ns}:history
-- ARGV   1 lock value   2 lock lifetime in ms   3 generation this apply was planned from
--        4 name of the topology   5 format of the record   6 epoch, used if there is none yet   7 intent
-- Returns {'done'} | {'lost', lock value or ''} | {'moved', generation} | {'owned', owning name}
--         | {'wrong_type', key, its type}: what the last step is to write to holds something else

-- include lock_held
local owner = redis.call('HGET', KEYS[2], 'owner')
if owner and owner ~= ARGV[4] then
  return {'owned', owner}
end
local found = redis.call('TYPE', KEYS[4]).ok
if found ~= 'none' and found ~= 'stream' then
  return {'wrong_type', KEYS[4], found}
end

redis.call('HSET', KEYS[2], 'owner', ARGV[4], 'format', ARGV[5])
redis.call('HSETNX', KEYS[2], 'epoch', ARGV[6])
redis.call('SET', KEYS[3], ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'done'}
