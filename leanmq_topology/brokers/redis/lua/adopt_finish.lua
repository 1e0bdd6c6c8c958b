-- Forget a queue pair that LeanMQ left, once all its messages are moved.
--
-- KEYS   1 old registry   2 old stream   3 old dead-letter stream   then the metadata and expiry keys of both
-- ARGV   1 name of the stream in the registry   2 of the dead-letter stream
-- Returns 1, or 0: there are messages (again), nothing was done

for at = 2, 3 do
  if redis.call('EXISTS', KEYS[at]) == 1 and redis.call('XLEN', KEYS[at]) > 0 then
    return 0
  end
end
for at = 2, #KEYS do
  redis.call('UNLINK', KEYS[at])
end
redis.call('SREM', KEYS[1], ARGV[1], ARGV[2])
return 1
