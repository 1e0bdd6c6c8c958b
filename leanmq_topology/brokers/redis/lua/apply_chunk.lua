-- One bounded part of an apply: make queues, record resources and the digests their senders must know.
-- Every step is the same when done twice, so the next apply can always start over.
--
-- KEYS   1 {ns}:lock   2 {ns}:topology   3 {ns}:sent   then for each queue: its stream {ns}:q:…, its record {ns}:m:…
-- ARGV   1 lock value   2 lock lifetime in ms   3 generation this apply was planned from   4 group
--        5 how many values the record of one queue has (field, value, field, value…)
--        then those of each queue, in the order of KEYS; then field, value of {ns}:topology to the end
-- Returns {'done'} | {'lost', lock value or ''} | {'moved', generation} | {'wrong_type', key, its type}
--
-- Counters of a queue that exists are left alone, and so is its state, unless it was on its way out. A group starts
-- at 0: a stream holds only what is not acknowledged, so a group that was lost and is made again hands out exactly the
-- unfinished work. A queue without a record is born now: what is remembered of sends to a former one of its name does
-- not count.

local FIRST_QUEUE = 4
local FIRST_VALUE = 6

-- include birth
-- include lock_held
-- include placed
-- include shortcut
for at = FIRST_QUEUE - 1, #KEYS do
  local wanted = at >= FIRST_QUEUE and (at - FIRST_QUEUE) % 2 == 0 and 'stream' or 'hash'
  local found = redis.call('TYPE', KEYS[at]).ok
  if found ~= 'none' and found ~= wanted then
    return {'wrong_type', KEYS[at], found}
  end
end

local width = tonumber(ARGV[5])
local value = FIRST_VALUE
for at = FIRST_QUEUE, #KEYS, 2 do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[at], ARGV[4], '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
    return made
  end
  redis.call('HSET', KEYS[at + 1], 'tag', string.match(KEYS[at], '^{([^{}]*)}')) -- first: it is read most
  redis.call('HSET', KEYS[at + 1], unpack(ARGV, value, value + width - 1))
  local state = redis.call('HGET', KEYS[at + 1], 'state')
  if not state then
    redis.call('HSET', KEYS[at + 1], 'born', read_birth())
  end
  if not state or state == 'draining' or state == 'retired' then
    redis.call('HSET', KEYS[at + 1], 'state', 'active')
  end
  write_short(KEYS[at + 1], KEYS[at], KEYS[3])
  value = value + width
end
for at = value, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'done'}
