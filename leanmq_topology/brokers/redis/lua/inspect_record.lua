-- Read the whole applied record of a namespace in one step, so that it never mixes two generations.
--
-- KEYS   1 {ns}:topology   2 {ns}:plan
-- ARGV   none
-- Returns {[field, value, …] of the record, intent of an unfinished apply or false}

return {redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2])}
