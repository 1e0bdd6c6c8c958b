-- Bring back what a purge took from a dead-letter queue, a bounded part at a time: all at once where it is empty.
--
-- KEYS   1 {ns}:t:<queue>   2 {ns}:d:<queue>   3 the trash of 2   4 {ns}:m:<queue>
-- ARGV   1 purge id   2 how many dead letters to move at most, where they are moved one by one
-- Returns {dead letters brought back, dead letters left} | {'unknown'}: no such purge, or too old
--
-- A dead letter that is moved one by one counts as dead since now: entries can only be added at the end.

-- include placed
-- include entries

local purges, dead, trash = KEYS[1], KEYS[2], KEYS[3]
local purge_id, budget = ARGV[1], ARGV[2]

if redis.call('HEXISTS', purges, purge_id) == 0 or redis.call('EXISTS', trash) == 0 then
  return {'unknown'}
end

local moved, left = 0, 0
if redis.call('XLEN', dead) == 0 then
  redis.call('RENAME', trash, dead)
  redis.call('PERSIST', dead)
  moved = redis.call('XLEN', dead)
else
  local entries = redis.call('XRANGE', trash, '-', '+', 'COUNT', budget)
  for _, entry in ipairs(entries) do
    write_copy(dead, entry[2])
  end
  for _, entry in ipairs(entries) do
    redis.call('XDEL', trash, entry[1])
  end
  moved, left = #entries, redis.call('XLEN', trash)
end
if left == 0 then
  redis.call('UNLINK', trash)
  redis.call('HDEL', purges, purge_id)
end
return {moved, left}
