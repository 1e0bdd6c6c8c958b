-- Last write of an apply: the namespace has a new generation and one more revision in its history, the intent and the
-- lock are gone.
--
-- KEYS   1 {ns}:lock   2 {ns}:topology   3 {ns}:plan   4 {ns}:history   5 {ns}:due
-- ARGV   1 lock value   2 generation this apply was planned from   3 fingerprint of the topology
--        4 who applied   5 when, in ms since 1970   6 Git commit, or ''
--        7 what it changed (JSON)   8 about how many revisions to keep
-- Returns {'done', new generation} | {'lost', lock value or ''} | {'moved', generation}

-- include look_call

local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then
  return {'lost', held or ''}
end
local generation = redis.call('HGET', KEYS[2], 'generation') or '0'
if generation ~= ARGV[2] then
  return {'moved', generation}
end
redis.call('XLEN', KEYS[4]) -- fails here, not between two writes, if it holds something else

local applied = redis.call('HINCRBY', KEYS[2], 'generation', 1)
redis.call('HSET', KEYS[2], 'fingerprint', ARGV[3], 'applied_by', ARGV[4], 'applied_at', ARGV[5], 'commit', ARGV[6])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*', 'generation', string.format('%.0f', applied), 'by', ARGV[4], 'at', ARGV[5],
  'commit', ARGV[6], 'fingerprint', ARGV[3], 'changes', ARGV[7])
redis.call('DEL', KEYS[3], KEYS[1])
call_to_look(KEYS[5])
return {'done', applied}
