-- Move entries of a dead-letter queue that LeanMQ left, with what is known of their failures.
--
-- KEYS   1 old stream   2 old expiry index   3 {ns}:d:<queue>   4 {ns}:m:<queue>
-- ARGV   for each: old entry id, its six values, reason, error (JSON); of an entry that is not one of LeanMQ's the
--        values are '': it keeps the fields it has
-- Returns how many were moved; entries that are gone by now do not count
--
-- What was moved is gone from its old place, so a repeated call moves nothing twice. The no-op ZREM exempts the moves
-- from the memory limit.

-- include placed
-- include entries

local OURS = {'id', 'type', 'data', 'headers', 'attempt', 'expires'}
local WIDTH = 9
local old, expiry, dead, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

redis.call('HLEN', meta) -- what holds something else must fail here, not between two writes
redis.call('XLEN', dead)
redis.call('ZREM', expiry, '')

local moved = 0
for at = 1, #ARGV, WIDTH do
  local fields = read_entry(old, ARGV[at])
  if fields then
    local added = {'reason', ARGV[at + 7], 'error', ARGV[at + 8]}
    if ARGV[at + 1] == '' then
      write_copy(dead, fields, added)
    else
      local words = {}
      for place, name in ipairs(OURS) do
        words[2 * place - 1], words[2 * place] = name, ARGV[at + place]
      end
      write_copy(dead, words, added)
    end
    redis.call('XDEL', old, ARGV[at])
    redis.call('ZREM', expiry, ARGV[at])
    moved = moved + 1
  end
end
if moved > 0 then
  redis.call('HINCRBY', meta, 'dead_lettered', moved)
end
return moved
