-- The names under which workers have read these queues.
--
-- KEYS   {ns}:q:<queue> of each queue, then {ns}:m:<queue> of each
-- ARGV   1 group
-- Returns the names, each once

-- include reachable

local seen, names = {}, {}
for at = 1, #KEYS / 2 do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[at], ARGV[1])
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
