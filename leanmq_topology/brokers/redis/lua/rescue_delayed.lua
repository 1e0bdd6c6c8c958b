-- Find delayed messages that no index leads to any more, and bring them back into it.
--
-- KEYS   1 {ns}:due   2 {ns}:z:<queue>   3 {ns}:b:<queue>   4 {ns}:m:<queue>
-- ARGV   1 queue   2 cursor, '0' to start
-- Returns {cursor to go on from, '0' at the end; how many were brought back}
--
-- That is what deleting one of the two indexes leaves behind. When they were due is gone with the index, so they are
-- due now. While the counts agree this costs four commands. The no-op ZREM exempts it from the memory limit.

-- include placed
-- include clock
-- include delayed
-- include doorbell

local AT_ONCE = 10
local MOST_BYTES = 1024 * 1024
local MOST_SEEN = 1000

local due, index, bodies, queue, cursor = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]

local function find_score(packed, now)
  local read, body = pcall(cmsgpack.unpack, packed)
  return read and type(body) == 'table' and body[7] and PARKED or now
end

local function bring_back(now)
  local seen, bytes, found = 0, 0, 0
  repeat
    local page = redis.call('HSCAN', bodies, cursor, 'COUNT', AT_ONCE)
    cursor = page[1]
    for at = 1, #page[2], 2 do
      local member, packed = page[2][at], page[2][at + 1]
      seen, bytes = seen + 1, bytes + #packed
      if not redis.call('ZSCORE', index, member) then
        redis.call('ZADD', index, find_score(packed, now), member)
        found = found + 1
      end
    end
  until cursor == '0' or seen >= MOST_SEEN or bytes >= MOST_BYTES
  return found
end

local function mend_due(now)
  local next = tonumber(redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')[2] or '')
  if next then
    note_due(due, queue, next >= tonumber(PARKED) and now + PARKED_PAUSE_MS or next, now)
  end
end

local function holds(key, wanted)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or found == wanted
end

if not (holds(due, 'zset') and holds(index, 'zset') and holds(bodies, 'hash')) then
  return {'0', 0}
end
local waiting, indexed = redis.call('HLEN', bodies), redis.call('ZCARD', index)
local scheduled = redis.call('ZSCORE', due, queue)
local found, now = 0, read_clock()
if waiting > indexed or cursor ~= '0' or (indexed > 0 and not scheduled) then
  redis.call('ZREM', due, '')
  if waiting > indexed or cursor ~= '0' then
    found = bring_back(now)
  end
  mend_due(now)
end
return {cursor, found}
