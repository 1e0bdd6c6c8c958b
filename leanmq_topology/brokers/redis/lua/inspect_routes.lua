-- Counters that routes keep for themselves; what their queues count is read there.
--
-- KEYS   1… {ns}:m:<route>
-- ARGV   names of counters
-- Returns for each route its counters in that order, nil where nothing was ever counted

local found = {}
for _, key in ipairs(KEYS) do
  found[#found + 1] = redis.call('HMGET', key, unpack(ARGV))
end
return found
