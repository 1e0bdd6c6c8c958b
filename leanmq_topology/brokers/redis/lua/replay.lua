-- Send dead letters back to the queue they came from, or to another, as messages that never failed.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:d:<origin>   4 {ns}:z:<queue>
--        5 {ns}:m:<origin>
-- ARGV   for each: entry id of the dead letter, the headers it goes with
-- Returns {'replayed', {1 or 0, …}} (0: no longer there) | {'full', max_length, room left}
--        | {'missing', 1: on its way out, 0: not there}
--
-- All that are still there, or none. A replay is a send: a queue without room for all of them refuses them all, and
-- a server over its memory limit refuses the first XADD. Id, type and data stay; the lifetime begins anew.

-- include placed
-- include clock
-- include entries

local stream, meta, dead = KEYS[1], KEYS[2], KEYS[3]

local found = redis.call('HMGET', meta, 'state', 'max_length', 'ttl_ms', 'delay_ms')
local refuses = found[1] == 'draining' or found[1] == 'retired'
if refuses or not found[4] or redis.call('TYPE', stream).ok ~= 'stream' then
  return {'missing', refuses and 1 or 0}
end

local answer, moves = {}, {}
for at = 1, #ARGV, 2 do
  local entry = read_entry(dead, ARGV[at])
  answer[#answer + 1] = entry and 1 or 0
  if entry then
    moves[#moves + 1] = {ARGV[at], entry, ARGV[at + 1]}
  end
end
local limit = tonumber(found[2] or '')
local room = limit and limit - redis.call('XLEN', stream) - redis.call('ZCARD', KEYS[4])
if room and room < #moves then
  return {'full', limit, math.max(room, 0)}
end
if #moves == 0 then
  return {'replayed', answer}
end

local now = read_clock()
local life = tonumber(found[3] or '')
local expires = life and {'expires', string.format('%.0f', now + life)} or {}
for _, move in ipairs(moves) do
  local fields = move[2]
  redis.call('XADD', stream, '*', 'id', find_value(fields, 'id'), 'type', find_value(fields, 'type'),
    'data', find_value(fields, 'data'), 'headers', move[3], unpack(expires))
end
for _, move in ipairs(moves) do
  redis.call('XDEL', dead, move[1])
end
redis.call('HINCRBY', meta, 'replayed', #moves)
return {'replayed', answer}
