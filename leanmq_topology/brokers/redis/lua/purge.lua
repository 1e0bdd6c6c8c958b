-- Take everything out of a queue in one step, however much it is: its keys become the trash of this purge.
--
-- KEYS   1 {ns}:t:<queue>   2 {ns}:due   3 {ns}:m:<queue>   4 {ns}:q:<queue>   5 {ns}:z:<queue>   6 {ns}:b:<queue>
--        7 {ns}:c:<queue>   8 9 10 11 what 4 5 6 7 are renamed to
-- ARGV   1 group   2 queue   3 purge id   4 how long it can be undone in ms; '0': not at all, the messages are gone
-- Returns {ready, in flight, delayed} that went, or false: not applied
--
-- Who waits for a reply to one of the first messages is told that it was purged.
--
-- RENAME takes the same time for one message as for a million. The group keeps its name and the stream its last id:
-- readers that wait on it go on waiting, and no entry id ever comes twice. A repeated call with the same id finds
-- what the first one did. The first write is not held to the memory limit, so a full server can be purged.

-- include placed
-- include clock
-- include entries
-- include replies
-- include requests
-- include waiting_requests

local PURGED = '{"type":"Purged","message":"its queue was purged"}'

local purges, meta, stream, delayed = KEYS[1], KEYS[3], KEYS[4], KEYS[5]
local group, queue, purge_id, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local done = redis.call('HGET', purges, purge_id)
if done then
  local _, _, _, ready, flying, waiting = unpack(cjson.decode(done))
  return {ready, flying, waiting}
end
if redis.call('TYPE', stream).ok ~= 'stream' or redis.call('HLEN', meta) == 0 then
  return false
end
redis.call('ZCARD', KEYS[2]) -- like HLEN, fails here and not between two writes if it holds something else
local summary = redis.pcall('XPENDING', stream, group)
local flying = summary.err and 0 or summary[1]
local ready = math.max(redis.call('XLEN', stream) - flying, 0)
local waiting = redis.call('ZCARD', delayed)
if ready + flying + waiting == 0 then
  return {0, 0, 0}
end

local last = find_value(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
local now = read_clock()

local requests = find_requests(stream, delayed, KEYS[6])
for at = 4, 7 do
  if keep == '0' then
    redis.call('UNLINK', KEYS[at])
  elseif redis.call('EXISTS', KEYS[at]) == 1 then
    redis.call('RENAME', KEYS[at], KEYS[at + 4])
    redis.call('PEXPIRE', KEYS[at + 4], keep)
  end
end
redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
redis.call('XSETID', stream, last)
redis.call('ZREM', KEYS[2], queue)
if keep ~= '0' then
  local record = cjson.encode({'main', now, tonumber(keep), ready, flying, waiting})
  redis.call('HSET', purges, purge_id, record, 'upto', string.match(last, '^%d+'))
  redis.call('PEXPIRE', purges, keep)
end
for _, fields in ipairs(requests) do
  tell_requester(meta, fields, PURGED, 'purged')
end
redis.call('HINCRBY', meta, 'purged', ready + flying + waiting)
return {ready, flying, waiting}
