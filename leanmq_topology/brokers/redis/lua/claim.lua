-- Take over deliveries whose lease has lapsed, a bounded stretch at a time.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2 consumer   3 cursor   4 how many at most
-- Returns {next cursor, {{entry id, delivery count with this one, fields}, …}}, or false: not applied
--
-- The lease comes from the queue's own record, so that a claimer with an old idea of it steals nothing. The cursor
-- is kept by the caller: starting from the front each time never reaches what lies behind many live leases. An
-- entry that is gone while still pending is acknowledged away (servers before 7.0 leave such ghosts).

local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local lease = redis.call('HGET', KEYS[2], 'visibility_ms')
if not lease then
  return false
end
local found = redis.call('XAUTOCLAIM', stream, group, consumer, lease, ARGV[3], 'COUNT', ARGV[4], 'JUSTID')
local claimed = {}
for _, id in ipairs(found[2]) do
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local held = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if not entry then
    redis.call('XACK', stream, group, id)
  elseif held then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', held[4] + 1, 'JUSTID')
    claimed[#claimed + 1] = {id, held[4] + 1, entry[2]}
  end
end
return {found[1], claimed}
