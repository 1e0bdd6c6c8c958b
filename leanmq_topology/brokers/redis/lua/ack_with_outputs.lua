-- Acknowledge one delivery and store what its handler sends, in one step: both or neither.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:a:<queue>   4 {ns}:c:<queue>   5 {ns}:t:<queue>
--        then those of `send`
-- ARGV   1 group   2 consumer   3 entry id   4 delivery count   then those of `send`, for a flush that is all or none
-- Returns {1, what `send` returns}: done, unless a send was refused: then nothing was; or {0}: somebody else's by now
--
-- What a former owner sends would be sent twice, so here ownership counts. The producer's marker tells a repeated
-- call that the first one did it. Each output takes the place of a message that goes: a move, which the no-op XACK
-- exempts from the memory limit, so that a full server drains.

-- include ownership

local ACK_KEYS, ACK_VALUES = 5, 4
local MARKER = ACK_KEYS + 2

local function send(KEYS, ARGV)
-- embed send
end

local function acknowledge(KEYS, ARGV)
-- embed ack
end

local function rest(list, first)
  local found = {}
  for at = first, #list do
    found[#found + 1] = list[at]
  end
  return found
end

local function is_done()
  local marker = redis.call('GET', KEYS[MARKER])
  return marker and cmsgpack.unpack(marker)[1] >= tonumber(ARGV[ACK_VALUES + 1])
end

local function is_refused(result)
  return type(result) == 'table' and (result[1] == 'stale' or result[1] == 'full')
end

local group, id = ARGV[1], ARGV[3]
if not is_done() and not is_ours(KEYS[1], group, ARGV[2], id, tonumber(ARGV[4])) then
  return {0}
end
redis.call('XACK', KEYS[1], group, '0-0')
local results = send(rest(KEYS, ACK_KEYS + 1), rest(ARGV, ACK_VALUES + 1))
for _, result in ipairs(results) do
  if is_refused(result) then
    return {1, results}
  end
end
acknowledge(KEYS, {group, '0', id})
return {1, results}
