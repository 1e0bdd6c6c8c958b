-- Read dead letters where they lie, oldest first. Nothing is touched.
--
-- KEYS   1 {ns}:d:<queue>   2 {ns}:m:<queue>
-- ARGV   1 entry id to go on after, '' for the first   2 how many at most
-- Returns {{entry id, fields}, …}

-- include placed

return redis.call('XRANGE', KEYS[1], ARGV[1] == '' and '-' or '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
