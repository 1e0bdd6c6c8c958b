-- Put a reply into the inbox of the client that asked, if it is still there.
--
-- KEYS   1 {ns}:r:<client>   2 {ns}:m:<queue>   3 {ns}:q:<queue>
-- ARGV   1 group   2 how many replies an inbox holds   3 id of the request   4 type   5 data   6 error (JSON) or ''
-- Returns 1, or 0: nobody waits any more, which is counted
--
-- The no-op XACK exempts it from the memory limit: what is told here is what became of a message that has left.

-- include replies

redis.call('XACK', KEYS[3], ARGV[1], '0-0')
return put_reply(KEYS[1], KEYS[2], ARGV, 2) and 1 or 0
