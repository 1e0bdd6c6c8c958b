-- Take out what is over: expired messages at the head of each queue, which nobody came to read in time; dead letters
-- and kept messages past the time they are kept for.
--
-- KEYS   1 {ns}:due   then q, m, d, z, b, c, a of each queue
-- ARGV   1 group   2 how many expired messages at most   3 error (JSON) of one that is dead-lettered
--        4… name of each queue
-- Returns {expired messages taken out, dead letters taken out}
--
-- Only what was never handed out is touched: a message in flight is not interrupted. The first that is not expired
-- ends the search, so a queue without expired messages costs two reads. The no-op XACK exempts the moves from the
-- memory limit.

-- include placement
-- include clock
-- include entries
-- include groups
-- include replies
-- include requests
-- include delayed
-- include dead_letters
-- include crashes
-- include history

local PLACES = 7
local group, budget, failure = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local now = read_clock()

local function find_expired(stream, after)
  local entry = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', 1)[1]
  local expires = entry and tonumber(find_value(entry[2], 'expires') or '')
  return expires and now >= expires and entry or nil
end

local function sweep_head(keys, queue, discards)
  local after = redis.call('EXISTS', keys.stream) == 1 and find_last_delivered(keys.stream, group)
  local entry = after and budget > 0 and find_expired(keys.stream, after)
  if not entry then
    return 0
  end
  local letters, discarded = open_dead_letters(keys, queue, now), 0
  redis.call('XACK', keys.stream, group, '0-0')
  while entry and letters.added + discarded < budget do
    if discards or is_request(entry[2]) then
      tell_requester(keys.meta, entry[2], failure, 'expired')
      discarded = discarded + 1
    else
      add_dead_letter(letters, entry[2], '', 'expired', failure)
    end
    forget_crashes(keys.crashes, entry[1], entry[2])
    redis.call('XDEL', keys.stream, entry[1])
    entry = find_expired(keys.stream, after)
  end
  count_dead_letters(letters)
  if discarded > 0 then
    redis.call('HINCRBY', keys.meta, 'expired', discarded)
    redis.call('HINCRBY', keys.meta, 'discarded', discarded)
  end
  return letters.added + discarded
end

-- Whole nodes of the stream first, a bounded number at a time; then what is over in the first one.
local function trim_dead_letters(keys, life)
  local oldest = string.format('%.0f', now - life)
  local removed = redis.call('XTRIM', keys.dead, 'MINID', '~', oldest, 'LIMIT', MOST_TRIMMED)
  if removed == 0 then
    removed = redis.call('XTRIM', keys.dead, 'MINID', oldest)
  end
  if removed > 0 then
    redis.call('HINCRBY', keys.meta, 'dead_expired', removed)
  end
  return removed
end

local queues = {}
for at = 4, #ARGV do
  local place = 2 + PLACES * (at - 4)
  local keys = {
    stream = KEYS[place], meta = KEYS[place + 1], dead = KEYS[place + 2], index = KEYS[place + 3],
    bodies = KEYS[place + 4], crashes = KEYS[place + 5], history = KEYS[place + 6], due = KEYS[1], name = ARGV[at],
  }
  keys.limits = redis.call('HMGET', keys.meta, 'on_expire', 'dead_ttl_ms', 'keep_acked_ms', 'keep_acked_count', 'tag')
  local astray = check_place(keys.limits[5], keys.meta, keys.stream)
  if astray and is_elsewhere(astray) then
    return astray
  elseif not astray then
    queues[#queues + 1] = keys
  end
end

local swept, removed = 0, 0
for _, keys in ipairs(queues) do
  local limits = keys.limits
  local life, keep_ms, keep_count = tonumber(limits[2] or ''), tonumber(limits[3] or ''), tonumber(limits[4] or '')
  local found = sweep_head(keys, keys.name, limits[1] == 'discard')
  swept, budget = swept + found, budget - found
  removed = removed + (life and trim_dead_letters(keys, life) or 0)
  trim_history(keys.history, keep_ms, keep_count, now)
end
return {swept, removed}
