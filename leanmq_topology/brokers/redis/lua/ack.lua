-- Acknowledge deliveries: they are done and leave the queue. Safe to repeat.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2… entry ids, at most 1,000
-- Returns how many were still there
--
-- No ownership check: the work is done, and refusing a late acknowledgement would only run it again. XACK comes
-- first, which lets the script through on a server over its memory limit; XDEL's count is the truth.

redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
local removed = redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
if removed > 0 then
  redis.call('HINCRBY', KEYS[2], 'acked', removed)
end
return removed
