-- Look for a message among those that wait for their time, a bounded part at a time. Nothing is touched.
--
-- KEYS   1 {ns}:z:<queue>   2 {ns}:b:<queue>, or what a purge made of them   3 {ns}:m:<queue>
-- ARGV   1 how many to pass over   2 how many to look at, at most   3 id of a message   4 text that may stand in
--        headers, as they are stored
-- Returns {how many to pass over next, -1 at the end; how many were looked at;
--          {{due in ms or -1: parked, fields}, …} with this id, or with this text, soonest first}
--
-- Reads about 4 MiB, one message in any case.

-- include placed
-- include delayed

local MOST_BYTES = 4 * 1024 * 1024

local passed, most, id, text = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local found, looked_at, size = {}, 0, 0

local function look_at(member, due)
  local packed = redis.call('HGET', KEYS[2], member) or ''
  size = size + #packed
  local read, body = pcall(cmsgpack.unpack, packed)
  if not read or type(body) ~= 'table' then
    return
  end
  if body[1] == id or string.find(body[4] or '', text, 1, true) then
    found[#found + 1] = {due < tonumber(PARKED) and due or -1, {'id', body[1], 'type', body[2], 'data', body[3], 'headers',
      body[4], 'attempt', body[5], 'expires', body[6]}}
  end
end

local rows = redis.call('ZRANGE', KEYS[1], passed, passed + most - 1, 'WITHSCORES')
for at = 1, #rows, 2 do
  if size >= MOST_BYTES then
    return {passed + looked_at, looked_at, found}
  end
  look_at(rows[at], tonumber(rows[at + 1]))
  looked_at = looked_at + 1
end
return {looked_at < most and -1 or passed + looked_at, looked_at, found}
