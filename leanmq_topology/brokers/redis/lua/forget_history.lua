-- Forget the acknowledged messages that a queue keeps.
--
-- KEYS   1 {ns}:a:<queue>
-- Returns how many there were

local kept = redis.call('XLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
return kept
