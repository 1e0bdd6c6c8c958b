-- Say that a worker is alive. For display only: ownership is decided by leases, never by this.
--
-- KEYS   1 {ns}:w:<worker>   then {ns}:q:<queue> of the queues it reads, then {ns}:m:<queue> of each
-- ARGV   1 lifetime in ms   2 group   3 consumer   then field, value, field, value…
-- Returns 1
--
-- DEL comes first, which lets the script through on a server over its memory limit: the worker that would drain it
-- must be able to start there. Workers are found by their names on queues; a server before 7.2 learns a name only when
-- it hands something out, so a worker that never got anything is named here. A queue that is not there is left out.

-- include reachable

redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
for at = 2, (#KEYS + 1) / 2 do
  redis.pcall('XGROUP', 'CREATECONSUMER', KEYS[at], ARGV[2], ARGV[3])
end
return 1
