-- Move deliveries to the dead-letter queue, as they are, with the reason beside them.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:d:<queue>
-- ARGV   1 group   2 consumer   then for each: entry id, delivery count, attempts or '' (leave as it is),
--        reason, error (JSON)
-- Returns for each 1 (was ours and is moved) or 0 (somebody else's by now; nothing was changed)
--
-- Foreign entries move with whatever fields they have. The dead letter exists before the entry goes; the no-op
-- XACK lets the move through on a server over its memory limit.

local stream, meta, dead = KEYS[1], KEYS[2], KEYS[3]
local group, consumer = ARGV[1], ARGV[2]

local function is_ours(id, count)
  local held = redis.call('XPENDING', stream, group, id, id, 1)[1]
  return held and held[2] == consumer and held[4] == count
end

local answer, moves = {}, {}
for at = 3, #ARGV, 5 do
  local id, attempts = ARGV[at], ARGV[at + 2]
  local entry = is_ours(id, tonumber(ARGV[at + 1])) and redis.call('XRANGE', stream, id, id)[1]
  answer[#answer + 1] = entry and 1 or 0
  if entry then
    local fields = entry[2]
    for field = 1, #fields, 2 do
      if attempts ~= '' and fields[field] == 'attempt' then
        fields[field + 1] = attempts
      end
    end
    for _, word in ipairs({'reason', ARGV[at + 3], 'error', ARGV[at + 4]}) do
      fields[#fields + 1] = word
    end
    moves[#moves + 1] = {id, fields, ARGV[at + 3] == 'expired'}
  end
end
if #moves == 0 then
  return answer
end

redis.call('XACK', stream, group, '0-0')
local expired = 0
for _, move in ipairs(moves) do
  redis.call('XADD', dead, '*', unpack(move[2]))
  redis.call('XACK', stream, group, move[1])
  redis.call('XDEL', stream, move[1])
  expired = expired + (move[3] and 1 or 0)
end
redis.call('HINCRBY', meta, 'dead_lettered', #moves)
if expired > 0 then
  redis.call('HINCRBY', meta, 'expired', expired)
end
return answer
