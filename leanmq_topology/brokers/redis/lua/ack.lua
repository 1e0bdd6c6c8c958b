-- Acknowledge deliveries: they are done and leave the queue, for its history where one is kept. Safe to repeat.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:a:<queue>   4 {ns}:c:<queue>   5 {ns}:t:<queue>
-- ARGV   1 group   2 how many of them are late: their lease had lapsed   3… entry ids, at most 1,000
-- Returns how many were still there
--
-- No ownership check: the work is done, and refusing a late acknowledgement would only run it again. XACK comes
-- first, which lets the script through on a server over its memory limit; XDEL's count is the truth. Entries are
-- read only where they are needed: for the history, or to forget that a message once crashed. What is done but not
-- there may lie in the trash of a purge: it is noted, so that undoing the purge does not bring it back.

-- include acknowledging

local keeping = read_keeping(KEYS)
return keeping.astray or acknowledge(KEYS, ARGV, keeping)
