-- Say that a worker is alive. For display only: ownership is decided by leases, never by this.
--
-- KEYS   1 {ns}:w:<worker>
-- ARGV   1 lifetime in ms   then field, value, field, value…
-- Returns 1
--
-- DEL comes first, which lets the script through on a server over its memory limit: the worker that would drain it
-- must be able to start there.

redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
