-- What is written of acknowledged entries besides their removal: the counters, and what a purge took meanwhile.

-- Of entries that are done but not in their queue (ARGV from `first` on), note those that may lie in the trash of a
-- purge, so that undoing the purge does not bring them back.
local function note_done(purges, first)
  local upto = tonumber(redis.call('HGET', purges, 'upto') or '')
  for at = first, upto and #ARGV or 0 do
    if tonumber(string.match(ARGV[at], '^%d+')) <= upto then
      redis.call('HSET', purges, ARGV[at], '')
    end
  end
end

-- `done` were pending and `removed` were still there, of those in ARGV from `first` on; `late` says, as text, how many
-- had a lease that had lapsed.
local function note_acknowledged(meta, purges, done, removed, late, first)
  if removed > 0 then
    redis.call('HINCRBY', meta, 'acked', removed)
    if late ~= '0' then
      redis.call('HINCRBY', meta, 'late', late)
    end
  end
  if done > removed then -- somebody deleted entries under the consumer
    redis.call('HINCRBY', meta, 'vanished', done - removed)
  end
  if removed < #ARGV - first + 1 then
    note_done(purges, first)
  end
end
