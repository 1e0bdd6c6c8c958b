-- Hand deliveries out again after a delay: each moves to the delayed set with its failure counted.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:z:<queue>   4 {ns}:b:<queue>   5 {ns}:due
-- ARGV   1 group   2 consumer   3 queue   then for each: entry id, delivery count, delay in ms
-- Returns for each 1 (was ours and is moved) or 0 (somebody else's by now; nothing was changed)
--
-- The new home is made before the old one goes. The no-op XACK comes before any write because a server over its
-- memory limit must still be able to drain: moves are exempt from the limit.

local stream, meta, index, bodies = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, queue = ARGV[1], ARGV[2], ARGV[3]

local function is_ours(id, count)
  local held = redis.call('XPENDING', stream, group, id, id, 1)[1]
  return held and held[2] == consumer and held[4] == count
end

local function read_entry(id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if not entry then
    return nil
  end
  local fields = {}
  for at = 1, #entry[2], 2 do
    fields[entry[2][at]] = entry[2][at + 1]
  end
  return fields
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local answer, moves = {}, {}
for at = 4, #ARGV, 3 do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local fields = is_ours(id, count) and read_entry(id)
  answer[#answer + 1] = fields and 1 or 0
  if fields then
    moves[#moves + 1] = {id, fields, count, now + tonumber(ARGV[at + 2])}
  end
end
if #moves == 0 then
  return answer
end

redis.call('XACK', stream, group, '0-0')
local soonest
for _, move in ipairs(moves) do
  local id, fields, count, when = move[1], move[2], move[3], move[4]
  local attempt = string.format('%.0f', (tonumber(fields.attempt) or 0) + count)
  local member = fields.id
  while redis.call('HEXISTS', bodies, member) == 1 do
    member = member .. '+' -- two messages may carry one id; neither may take the other's place
  end
  redis.call('HSET', bodies, member,
    cmsgpack.pack({fields.id, fields.type, fields.data, fields.headers, attempt, fields.expires}))
  redis.call('ZADD', index, when, member)
  soonest = math.min(soonest or when, when)
end
redis.call('ZADD', KEYS[5], 'LT', soonest, queue)
for _, move in ipairs(moves) do
  redis.call('XACK', stream, group, move[1])
  redis.call('XDEL', stream, move[1])
end
redis.call('HINCRBY', meta, 'retried', #moves)
return answer
