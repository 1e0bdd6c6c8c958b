-- Move entries of a main queue that LeanMQ left: what was not acknowledged waits again, what was is kept or goes.
--
-- KEYS   1 old stream   2 old expiry index   3 {ns}:q:<queue>   4 {ns}:m:<queue>   5 {ns}:a:<queue>   6 {ns}:d:<queue>
-- ARGV   1 old group   then for each: old entry id, '1' (keep it if it was acknowledged), then its six values, or
--        '' five times and an error (JSON): not one of LeanMQ's, dead-lettered with the fields it has
-- Returns {waiting, kept, dead, dropped}; entries that are gone by now count nowhere
--
-- The old group decides at this very moment: pending or never delivered means waiting. Add first, remove second; what
-- was moved is gone from its old place, so a repeated call moves nothing twice. The no-op XACK exempts the moves from
-- the memory limit.

-- include placed
-- include entries
-- include groups

local OURS = {'id', 'type', 'data', 'headers', 'attempt', 'expires'}
local WIDTH = 8
local old, expiry, stream, meta, history, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group = ARGV[1]

redis.call('ZCARD', expiry) -- what holds something else must fail here, not between two writes
redis.call('XLEN', history)
redis.call('XLEN', dead)
redis.call('HLEN', meta)
redis.call('XACK', stream, 'g', '0-0')

local handed_out = redis.call('EXISTS', old) == 1 and find_last_delivered(old, group)

-- How often it was handed out without being acknowledged; nil: it was acknowledged.
local function count_runs(id)
  if not handed_out or is_after(id, handed_out) then
    return 0
  end
  local held = redis.call('XPENDING', old, group, id, id, 1)[1]
  return held and held[4]
end

local waiting, kept, dead_now, dropped = 0, 0, 0, 0

local function add(target, at, runs)
  local words = {}
  for place, name in ipairs(OURS) do
    words[2 * place - 1], words[2 * place] = name, ARGV[at + 1 + place]
  end
  words[10] = string.format('%.0f', runs)
  redis.call('XADD', target, '*', unpack(words))
end

for at = 2, #ARGV, WIDTH do
  local id = ARGV[at]
  local fields = read_entry(old, id)
  if fields then
    local runs = count_runs(id)
    if ARGV[at + 2] == '' then
      write_copy(dead, fields, {'reason', 'undecodable', 'error', ARGV[at + 7]})
      dead_now = dead_now + 1
    elseif runs then
      add(stream, at, runs)
      waiting = waiting + 1
    elseif ARGV[at + 1] == '1' then
      add(history, at, 0)
      kept = kept + 1
    else
      dropped = dropped + 1
    end
    if handed_out then
      redis.call('XACK', old, group, id)
    end
    redis.call('XDEL', old, id)
    redis.call('ZREM', expiry, id)
  end
end
if waiting > 0 then
  redis.call('HINCRBY', meta, 'sent', waiting)
end
if dead_now > 0 then
  redis.call('HINCRBY', meta, 'dead_lettered', dead_now)
end
return {waiting, kept, dead_now, dropped}
