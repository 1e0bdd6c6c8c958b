-- Acknowledge one delivery, and reply to its request or store what its handler sends, in one step: all or nothing.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:a:<queue>   4 {ns}:c:<queue>   5 {ns}:t:<queue>
--        6 {ns}:r:<client>   then those of `send`
-- ARGV   1 group   2 consumer   3 entry id   4 delivery count
--        5 id of the request, '' for no reply   6 type   7 data   8 error of the reply   9 how many sends there are
--        then those of `send`, for a flush that is all or none
-- Returns {1, what `send` returns}: done, unless a send was refused: then nothing was; or {0}: somebody else's by now
--
-- What a former owner sends would be sent twice, so here ownership counts. The producer's marker tells a repeated
-- call that the first one did it. A client that waits no more is no reason to hold anything back. Each output takes
-- the place of a message that goes: a move, which the no-op XACK exempts from the memory limit, so that a full server
-- drains.

-- include flushes
-- include ownership
-- include replies

local ACK_KEYS, ACK_VALUES = 6, 9
local MARKER = ACK_KEYS + 2
local SEQUENCE, MARKER_LIFE = ACK_VALUES + 1, ACK_VALUES + 2

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
  return marker and read_sequence(marker) >= tonumber(ARGV[SEQUENCE])
end

-- What is sent, if anything is: a message that only replies leaves a marker of its own.
local function store()
  if ARGV[9] ~= '0' then
    return send(rest(KEYS, ACK_KEYS + 1), rest(ARGV, ACK_VALUES + 1))
  end
  remember_flush(KEYS[MARKER], ARGV[SEQUENCE], {}, ARGV[MARKER_LIFE])
  return {}
end

local function is_refused(result)
  return type(result) == 'table' and (result[1] == 'stale' or result[1] == 'full')
end

local group, id = ARGV[1], ARGV[3]
local done = is_done()
if not done and not is_ours(KEYS[1], group, ARGV[2], id, tonumber(ARGV[4])) then
  return {0}
end
redis.call('XLEN', KEYS[6]) -- fails now if it is no stream, and the next if it is no hash
redis.call('HLEN', KEYS[2])
redis.call('XACK', KEYS[1], group, '0-0')
local results = store()
for _, result in ipairs(results) do
  if is_refused(result) then
    return {1, results}
  end
end
if ARGV[5] ~= '' and not done and not put_reply(KEYS[6], ARGV[5], ARGV[6], ARGV[7], ARGV[8]) then
  count_late_reply(KEYS[2])
end
acknowledge(KEYS, {group, '0', id})
return {1, results}
