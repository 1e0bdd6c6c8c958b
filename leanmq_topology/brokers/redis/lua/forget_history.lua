-- Forget the acknowledged messages that a queue keeps.
--
-- KEYS   1 {ns}:a:<queue>   2 {ns}:m:<queue>
-- Returns how many there were

-- include placed

local kept = redis.call('XLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
return kept
