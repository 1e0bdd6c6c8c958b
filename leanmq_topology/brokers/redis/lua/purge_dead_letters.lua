-- Take everything out of a dead-letter queue in one step: it becomes the trash of this purge.
--
-- KEYS   1 {ns}:t:<queue>   2 {ns}:m:<queue>   3 {ns}:d:<queue>   4 what 3 is renamed to
-- ARGV   1 purge id   2 how long it can be undone in ms; '0': not at all, the dead letters are gone
-- Returns how many went, or false: not applied. A repeated call with the same id finds what the first one did.

-- include placed
-- include clock

local purges, meta, dead, trash = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local purge_id, keep = ARGV[1], ARGV[2]

local done = redis.call('HGET', purges, purge_id)
if done then
  return cjson.decode(done)[4]
end
if redis.call('HLEN', meta) == 0 then -- fails here, not between two writes, if it holds something else
  return false
end
local count = redis.call('XLEN', dead)
if count == 0 then
  return 0
end
local now = read_clock()

if keep == '0' then
  redis.call('UNLINK', dead)
else
  redis.call('RENAME', dead, trash)
  redis.call('PEXPIRE', trash, keep)
  redis.call('HSET', purges, purge_id, cjson.encode({'dead', now, tonumber(keep), count, 0, 0}))
  redis.call('PEXPIRE', purges, keep)
end
redis.call('HINCRBY', meta, 'dead_discarded', count)
return count
