-- Hand deliveries out again after a delay: each moves to the delayed set with its failure counted.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:z:<queue>   4 {ns}:b:<queue>   5 {ns}:due
-- ARGV   1 group   2 consumer   3 queue   then for each: entry id, delivery count, delay in ms
-- Returns for each 1 (was ours and is moved) or 0 (somebody else's by now; nothing was changed)
--
-- The new home is made before the old one goes. The no-op XACK comes before any write because a server over its
-- memory limit must still be able to drain: moves are exempt from the limit. The attempt that is written counts
-- settled failures and lapsed leases alike, so a group that is made again loses none of them.

-- include placement
-- include ownership
-- include clock
-- include entries
-- include delayed
-- include doorbell

local stream, meta, index, bodies = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, queue = ARGV[1], ARGV[2], ARGV[3]

local function pack_body(fields, count)
  local body = {}
  for at, name in ipairs({'id', 'type', 'data', 'headers', 'attempt', 'expires'}) do
    body[at] = find_value(fields, name) or ''
  end
  body[5] = string.format('%.0f', (tonumber(body[5]) or 0) + count)
  return body
end

-- A key that holds something else must fail here, not between two writes.
local astray = check_place(redis.call('HGET', meta, 'tag'), meta, stream)
if astray then
  return astray
end
redis.call('HLEN', bodies)
redis.call('ZCARD', index)
redis.call('ZCARD', KEYS[5])

local now, soonest, moved, answer = read_clock(), nil, 0, {}
redis.call('XACK', stream, group, '0-0')
for at = 4, #ARGV, 3 do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local fields = is_ours(stream, group, consumer, id, count) and read_entry(stream, id)
  answer[#answer + 1] = fields and 1 or 0
  if fields then
    local when = now + tonumber(ARGV[at + 2])
    local body = pack_body(fields, count)
    put_delayed(index, bodies, body[1], body, when)
    redis.call('XACK', stream, group, id)
    redis.call('XDEL', stream, id)
    soonest, moved = math.min(soonest or when, when), moved + 1
  end
end
if soonest then
  note_due(KEYS[5], queue, soonest, now)
  redis.call('HINCRBY', meta, 'retried', moved)
end
return answer
