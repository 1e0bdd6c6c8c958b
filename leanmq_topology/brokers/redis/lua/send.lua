-- Store a flush: sends that travel together, each of them all or none over its copies.
--
-- KEYS   1 {ns}:topology   2 {ns}:p:<producer>   3 {ns}:due
--        then {ns}:m:<address> of each address, then q, m, z, b of each queue
-- ARGV   1 sequence   2 life of the producer's marker in ms   3 '1': one failing send withholds all
--        4 number of addresses   5 number of queues
--        then name, digest of each address; then the name of each queue; then the sends to the end, each
--        address, number of copies, queue…, id, type, data, headers, ttl in ms or '', delay in ms or ''
--        (addresses and queues by their place, from 1)
-- Returns for each send {'stored', copies} | {'stale', digest or ''} | {'full', queue, max_length}
--
-- Everything is checked before anything is written. The first write is an XADD (or the like) that the server
-- refuses when it is over its memory limit, so then nothing at all is written. The marker makes a resend after
-- a lost answer harmless: it holds the last sequence of a producer with its result.

local sequence, marker_life, together = tonumber(ARGV[1]), ARGV[2], ARGV[3] == '1'
local addresses, queues = tonumber(ARGV[4]), tonumber(ARGV[5])

local marker = redis.call('GET', KEYS[2])
if marker then
  local last = cmsgpack.unpack(marker)
  if last[1] >= sequence then
    return last[2]
  end
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- What each address and each queue allows, read once a flush.

local stale = {}
for at = 1, addresses do
  local name, digest = ARGV[4 + 2 * at], ARGV[5 + 2 * at]
  local applied = redis.call('HGET', KEYS[1], '@' .. name)
  if applied ~= digest then
    stale[at] = {'stale', applied or ''}
  end
end

local first_queue = 5 + 2 * addresses
local function keys_of(queue)
  local at = 3 + addresses + 4 * (queue - 1)
  return KEYS[at + 1], KEYS[at + 2], KEYS[at + 3], KEYS[at + 4]
end

local gone, room, limit, ttl, delay = {}, {}, {}, {}, {}
for queue = 1, queues do
  local stream, meta, index = keys_of(queue)
  local found = redis.call('HMGET', meta, 'state', 'max_length', 'ttl_ms', 'delay_ms')
  local refuses = found[1] == 'draining' or found[1] == 'retired'
  if refuses or not found[4] or redis.call('TYPE', stream).ok ~= 'stream' then
    gone[queue] = true
  end
  limit[queue] = tonumber(found[2] or '')
  ttl[queue], delay[queue] = tonumber(found[3] or ''), tonumber(found[4] or '') or 0
  if limit[queue] and not gone[queue] then
    room[queue] = limit[queue] - redis.call('XLEN', stream) - redis.call('ZCARD', index)
  end
end

-- What becomes of each send. A queue that is gone makes its address one that is not applied.

local function judge(address, copies, at)
  if stale[address] then
    return stale[address]
  end
  for copy = 1, copies do
    local queue = tonumber(ARGV[at + 1 + copy])
    if gone[queue] then
      return {'stale', ''}
    end
    if room[queue] and room[queue] < 1 then
      return {'full', ARGV[first_queue + queue], limit[queue]}
    end
  end
  for copy = 1, copies do
    local queue = tonumber(ARGV[at + 1 + copy])
    if room[queue] then
      room[queue] = room[queue] - 1
    end
  end
  return {'stored', copies}
end

local results, failure = {}, nil
local at = first_queue + queues + 1
while at <= #ARGV do
  local copies = tonumber(ARGV[at + 1])
  local result = judge(tonumber(ARGV[at]), copies, at)
  results[#results + 1] = result
  if result[1] ~= 'stored' then
    failure = failure or result
  end
  at = at + 8 + copies
end
if failure and together then
  for place = 1, #results do
    if results[place][1] == 'stored' then
      results[place] = failure
    end
  end
  return results
end

-- Writing.

local sent, unrouted, wrote, due = {}, {}, false, {}

local function store(queue, id, kind, data, headers, own_ttl, own_delay)
  local stream, _, index, bodies = keys_of(queue)
  local life, wait = ttl[queue], own_delay or delay[queue]
  if own_ttl and (not life or own_ttl < life) then
    life = own_ttl
  end
  local expires = life and string.format('%.0f', now + life) or ''
  if wait == 0 then
    redis.call('XADD', stream, 'NOMKSTREAM', '*', 'id', id, 'type', kind, 'data', data, 'headers', headers,
      'attempt', '0', 'expires', expires)
  else
    local member = id -- two messages may carry one id; neither may take the other's place
    while redis.call('HEXISTS', bodies, member) == 1 do
      member = member .. '+'
    end
    redis.call('HSET', bodies, member, cmsgpack.pack({id, kind, data, headers, '0', expires}))
    redis.call('ZADD', index, now + wait, member)
    due[queue] = math.min(due[queue] or now + wait, now + wait)
  end
  sent[queue] = (sent[queue] or 0) + 1
  wrote = true
end

at = first_queue + queues + 1
for place = 1, #results do
  local address, copies = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local body = at + 2 + copies
  if results[place][1] == 'stored' then
    for copy = 1, copies do
      store(tonumber(ARGV[at + 1 + copy]), ARGV[body], ARGV[body + 1], ARGV[body + 2], ARGV[body + 3],
        tonumber(ARGV[body + 4]), tonumber(ARGV[body + 5]))
    end
    if copies == 0 then
      unrouted[address] = (unrouted[address] or 0) + 1
    end
  end
  at = body + 6
end

for queue, count in pairs(sent) do
  local _, meta = keys_of(queue)
  redis.call('HINCRBY', meta, 'sent', count)
end
for queue, when in pairs(due) do
  redis.call('ZADD', KEYS[3], 'LT', when, ARGV[first_queue + queue])
end
for address, count in pairs(unrouted) do
  redis.call('HINCRBY', KEYS[3 + address], 'unrouted', count)
  wrote = true
end
if wrote then
  redis.call('SET', KEYS[2], cmsgpack.pack({sequence, results}), 'PX', marker_life)
end
return results
