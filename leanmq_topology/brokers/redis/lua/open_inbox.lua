-- Make an empty reply inbox that lives for a time. Safe to repeat.
--
-- KEYS   1 {ns}:r:<client>
-- ARGV   1 lifetime in ms
-- Returns nothing
--
-- A stream is made by its first entry, which goes again in the same command.

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XADD', KEYS[1], 'MAXLEN', 0, '*', 'id', '')
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
