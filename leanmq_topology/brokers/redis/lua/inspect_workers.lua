-- The heartbeats of these workers; one that has none is not running any more.
--
-- KEYS   1… {ns}:w:<worker>
-- Returns for each {ms until it expires, {field, value, …}}, the latter empty if there are none

local found = {}
for _, key in ipairs(KEYS) do
  found[#found + 1] = {redis.call('PTTL', key), redis.call('HGETALL', key)}
end
return found
