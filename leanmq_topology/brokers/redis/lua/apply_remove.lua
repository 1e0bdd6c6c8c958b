-- Take away one resource that is no longer declared, or put a queue on its way out.
-- Done twice it is the same, so the next apply can always start over.
--
-- KEYS   1 {ns}:lock   2 {ns}:topology   3 {ns}:pairs   4 {ns}:due   5 {ns}:upkeep   6 {ns}:sent
--        then m of a route (unless a queue bears its name now) or queue, and q d z b c a t of a queue
-- ARGV   1 lock value   2 lock lifetime in ms   3 generation this apply was planned from
--        4 'delete', 'drain' or 'retain'   5 address   6 name   7 '1': a queue goes with what it holds
--        8 '1': another bears its name now, so senders to that name still have to know it
--        then addresses of the queues that accept a message type
-- Returns {'done'} | {'lost', lock value or ''} | {'moved', generation} | {'not_empty', how many messages}
--         | {'used'}: a queue that accepts this type turned out not to be empty, and its workers need it
--
-- A queue is looked at in the step that deletes it, so that nothing is lost that came after the plan. Who waits for a
-- reply to one of the first messages that go with it is told, as by a purge. A queue that is
-- retained becomes a pair that no topology declares. UNLINK takes the same time however much it is.

-- include clock
-- include entries
-- include replies
-- include requests
-- include waiting_requests
-- include uncounting

local META, STREAM, DEAD, DELAYED, BODIES = 7, 8, 9, 10, 11
local DELETED = '{"type":"Purged","message":"its queue was deleted"}'

-- include lock_held
-- include placed

for at = 9, #ARGV do
  if redis.call('HEXISTS', KEYS[2], ARGV[at]) == 1 then
    return {'used'}
  end
end

local step, address, name = ARGV[4], ARGV[5], ARGV[6]
local is_queue = KEYS[STREAM] ~= nil

local function count_messages()
  return redis.call('XLEN', KEYS[STREAM]) + redis.call('XLEN', KEYS[DEAD]) + redis.call('ZCARD', KEYS[DELAYED])
end

local function forget()
  redis.call('HDEL', KEYS[2], address)
  if KEYS[META] and ARGV[8] ~= '1' then
    redis.call('HDEL', KEYS[2], '@' .. name)
  end
end

if step == 'drain' then
  if redis.call('EXISTS', KEYS[META]) == 1 then
    redis.call('HSET', KEYS[META], 'state', 'draining')
    redis.call('HDEL', KEYS[META], 'short')
  end
elseif step == 'retain' then
  redis.call('HSETNX', KEYS[3], name, string.format('%.0f', read_clock()) .. ' pair')
  forget()
else
  local count = is_queue and ARGV[7] ~= '1' and count_messages() or 0
  if count > 0 then
    return {'not_empty', count}
  end
  local requests = is_queue and ARGV[7] == '1' and find_requests(KEYS[STREAM], KEYS[DELAYED], KEYS[BODIES]) or {}
  redis.call('PEXPIRE', KEYS[1], ARGV[2]) -- first, as it is not held to the memory limit
  for _, fields in ipairs(requests) do
    tell_requester(KEYS[META], fields, DELETED, 'purged')
  end
  if is_queue then
    forget_counter(KEYS[META], KEYS[6])
  end
  for at = META, #KEYS do
    redis.call('UNLINK', KEYS[at])
  end
  if is_queue then
    redis.call('ZREM', KEYS[4], name)
    redis.call('HDEL', KEYS[5], 'checked:' .. name)
    redis.call('HDEL', KEYS[3], name)
  end
  forget()
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'done'}
