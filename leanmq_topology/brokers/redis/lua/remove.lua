-- Take messages out of a queue for good, by hand: delivered or not, whoever holds them. Safe to repeat.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:c:<queue>   4 {ns}:t:<queue>
-- ARGV   1 group   2… entry ids, at most 1,000
-- Returns how many were there
--
-- XACK comes first, which lets the script through on a server over its memory limit. What is not there may lie in the
-- trash of a purge: it is noted, so that undoing the purge does not bring it back.

-- include entries
-- include crashes

local stream, meta, crashes, purges = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

redis.call('HLEN', meta) -- fails here, not between two writes, if it holds something else
redis.call('XACK', stream, ARGV[1], unpack(ARGV, 2))
if redis.call('EXISTS', crashes) == 1 then
  for at = 2, #ARGV do
    local fields = read_entry(stream, ARGV[at])
    if fields then
      forget_crashes(crashes, ARGV[at], fields)
    end
  end
end
local removed = redis.call('XDEL', stream, unpack(ARGV, 2))
if removed > 0 then
  redis.call('HINCRBY', meta, 'discarded', removed)
end
local upto = removed < #ARGV - 1 and tonumber(redis.call('HGET', purges, 'upto') or '')
for at = 2, upto and #ARGV or 0 do
  if tonumber(string.match(ARGV[at], '^%d+')) <= upto then
    redis.call('HSET', purges, ARGV[at], '')
  end
end
return removed
