-- Take the apply lock of a namespace, unless somebody holds it or the namespace belongs to another topology.
--
-- KEYS   1 {ns}:lock   2 {ns}:topology
-- ARGV   1 token (random, one per apply)   2 holder (text for people)   3 lifetime in ms   4 name of the topology
-- Returns {'taken', lock value}   the value is what every later script of this apply must find in the lock
--         {'held', lock value, ms left}
--         {'owned', owning name}          nothing was written
--
-- The fencing number grows with every lock ever taken; it stands in the value, so two holders never look alike.

local owner = redis.call('HGET', KEYS[2], 'owner')
if owner and owner ~= ARGV[4] then
  return {'owned', owner}
end

local held = redis.call('GET', KEYS[1])
if held then
  local token = string.match(held, '^%d+:([^:]+):')
  if token == ARGV[1] then
    return {'taken', held} -- the answer to our first attempt was lost
  end
  return {'held', held, redis.call('PTTL', KEYS[1])}
end

local fence = redis.call('HINCRBY', KEYS[2], 'fence', 1)
local value = string.format('%d', fence) .. ':' .. ARGV[1] .. ':' .. ARGV[2]
redis.call('SET', KEYS[1], value, 'PX', ARGV[3])
return {'taken', value}
