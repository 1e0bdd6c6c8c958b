-- The names under which workers have read these queues.
--
-- KEYS   1… {ns}:q:<queue>
-- ARGV   1 group
-- Returns the names, each once

local seen, names = {}, {}
for _, stream in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, ARGV[1])
  if not consumers.err then
    for _, consumer in ipairs(consumers) do
      local name = consumer[2]
      if not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
end
return names
