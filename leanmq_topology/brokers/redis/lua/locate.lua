-- Are these queues where the caller looks for them? Asked by a reader that found one missing: a bare read cannot tell.
--
-- KEYS   {ns}:q:<queue>, {ns}:m:<queue> of each queue
-- ARGV   1 group
-- Returns for each 1, or 0: its stream or its group is missing there, and no record says that it lies elsewhere

-- include placed

local answer = {}
for at = 1, #KEYS, 2 do
  answer[#answer + 1] = redis.pcall('XPENDING', KEYS[at], ARGV[1]).err and 0 or 1
end
return answer
