-- Acknowledge one delivery, and reply to its request or store what its handler sends, in one step: all or nothing.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:a:<queue>   4 {ns}:c:<queue>   5 {ns}:t:<queue>
--        6 {ns}:r:<client>   7 {ns}:p:<producer>   then those of `send` or `send_plain`, if anything is sent
-- ARGV   1 group   2 consumer   3 entry id   4 delivery count
--        5 id of the request, '' for no reply   6 type   7 data   8 error of the reply
--        9 sequence   10 life of the producer's marker in ms   11 '1': what is sent goes by `send_plain`
--        then those of `send` or `send_plain`, if anything is sent, for a flush that is all or none
-- Returns {1, what it was sent by returns}: done, unless a send was refused: then nothing was
--        | {0}: somebody else's by now | nil: nothing was done, as `send_plain` will not do
--
-- What a former owner sends would be sent twice, so here ownership counts. The producer's marker tells a repeated
-- call that the first one did it. A client that waits no more is no reason to hold anything back. Each output takes
-- the place of a message that goes: a move, which the no-op XACK exempts from the memory limit, so that a full server
-- drains.

-- include acknowledging
-- include flushes
-- include ownership
-- include replies

local ACK_KEYS, ACK_VALUES = 7, 11
local stream, inbox, producer = KEYS[1], KEYS[6], KEYS[7]
local group, id = ARGV[1], ARGV[3]
local sends, replies = #KEYS > ACK_KEYS, ARGV[5] ~= ''

local function send(KEYS, ARGV)
-- embed send
end

local function send_plain(KEYS, ARGV)
-- embed send_plain
end

local function rest(list, first)
  local found = {}
  for at = first, #list do
    found[#found + 1] = list[at]
  end
  return found
end

local function is_done()
  local marker = redis.call('GET', producer)
  return marker and read_sequence(marker) >= tonumber(ARGV[9])
end

local function is_refused(result)
  return type(result) == 'table' and (result[1] == 'stale' or result[1] == 'full')
end

local keeping, results = read_keeping(KEYS), {}
if keeping.astray then
  return keeping.astray
end
local ours = is_ours(stream, group, ARGV[2], id, tonumber(ARGV[4]))
if not ours and not is_done() then
  return {0}
end
if replies then
  redis.call('XLEN', inbox) -- fails now if it is no stream
end
redis.call('XACK', stream, group, '0-0')
if sends then
  local store = ARGV[11] == '1' and send_plain or send
  results = store(rest(KEYS, ACK_KEYS + 1), rest(ARGV, ACK_VALUES + 1))
end
if not results then
  return false
elseif type(results) == 'table' and results.err then
  return results
end
for _, result in ipairs(type(results) == 'table' and results or {}) do
  if is_refused(result) then
    return {1, results}
  end
end
if replies and ours and not put_reply(inbox, ARGV[5], ARGV[6], ARGV[7], ARGV[8]) then
  count_late_reply(KEYS[2])
end
if not sends then
  remember_flush(producer, ARGV[9], {}, ARGV[10])
end
acknowledge(KEYS, {group, '0', id}, keeping)
return {1, results}
