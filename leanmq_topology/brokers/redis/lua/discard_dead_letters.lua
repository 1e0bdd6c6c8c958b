-- Forget dead letters, by the explicit wish of an operator.
--
-- KEYS   1 {ns}:m:<queue>   2 {ns}:d:<queue>
-- ARGV   entry ids, at most 1,000
-- Returns for each 1 (is gone now) or 0 (was not there)

-- include placed

redis.call('HLEN', KEYS[1]) -- fails here, not between two writes, if it holds something else

local answer, removed = {}, 0
for at = 1, #ARGV do
  answer[at] = redis.call('XDEL', KEYS[2], ARGV[at])
  removed = removed + answer[at]
end
if removed > 0 then
  redis.call('HINCRBY', KEYS[1], 'dead_discarded', removed)
end
return answer
