-- Which of these queues hold anything at all, ready, handed out or delayed? What is empty needs no search.
--
-- KEYS   {ns}:q:<queue>, {ns}:z:<queue>, {ns}:b:<queue> of each queue, then {ns}:m:<queue> of each
-- ARGV   name of each queue
-- Returns the names of those that do, and of those whose keys are not what they should be

-- include reachable

local function is_empty(command, key)
  return redis.pcall(command, key) == 0
end

local filled = {}
for at, name in ipairs(ARGV) do
  local first = 3 * at - 2
  if not (is_empty('XLEN', KEYS[first]) and is_empty('ZCARD', KEYS[first + 1]) and is_empty('HLEN', KEYS[first + 2])) then
    filled[#filled + 1] = name
  end
end
return filled
