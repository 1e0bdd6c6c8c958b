-- Store a flush the short way: sends to one address, each with a copy in the same queues, which nothing delays, limits
-- or remembers. Most flushes are such, and `send` takes the server twice as long for them.
--
-- KEYS   1 {ns}:topology   2 {ns}:p:<producer>   3 {ns}:sent   then {ns}:m:<queue>, {ns}:q:<queue> of each queue
-- ARGV   1 sequence, its digits filled up so that sequences compare as text   2 life of the producer's marker in ms
--        3 the address's field in {ns}:topology   4 its digest ('': a pair that no topology declares)
--        5 how many copies each send makes, as the marker holds it (MessagePack); '': tell entry ids
--        then for sends in a row that have it in common: type, headers, ttl in ms or '', how many they are, and id,
--        data of each
-- Returns how many copies each send made | {'entry', id} of each: its only copy, where ids are asked for
--        | nil: something is in the way and nothing was written; `send`, under the same sequence, says what
--
-- As in `send`, everything is checked before anything is written, but for what would take a command more each time and
-- hardly ever is so. The producer's marker is read and written in one command: it holds again what it held if the flush
-- turns out to be stored. Whether a stream is there at all its first XADD says: if one is refused, the marker is put
-- back and the copies that went before it are taken out again. A server over its memory limit refuses the marker, so
-- then nothing at all is written. Every call and every function made costs a send on its own what a message costs in a
-- batch: a queue is looked at by its `short` (see `shortcut`), and several are counted in one command.

local FIRST_QUEUE, FIRST_SEND, MOST_TOGETHER, NOTHING = 4, 6, 1000, {}
local call = redis.call
if (call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[4] then
  return false
end

local lives, counters, counted = {}, {}, 0 -- of each queue; `lives` by the place of its record
local copies = (#KEYS - FIRST_QUEUE + 1) / 2
for at = FIRST_QUEUE, #KEYS, 2 do
  local stream, short, counter, life = KEYS[at + 1], call('HGET', KEYS[at], 'short'), nil, nil
  if short and string.find(short, stream, 1, true) == 1 then
    counter, life = string.match(short, '^( %d+) (%d*)$', #stream + 1)
  end
  if counter then
    counted = counted + 1
    counters[counted] = counter
  else
    local found = call('HMGET', KEYS[at], 'state', 'max_length', 'delay_ms', 'ttl_ms', 'tag')
    local refuses, tag = found[1] == 'draining' or found[1] == 'retired', found[5] or ''
    if refuses or found[2] ~= '' or found[3] ~= '0' then
      return false
    elseif string.find(stream, tag, 2, true) ~= 2 or string.byte(stream, #tag + 2) ~= 125 then
      return false -- it lies under another tag: see `placement`
    end
    life = found[4]
  end
  lives[at] = life ~= '' and tonumber(life) or nil
end

local before = redis.pcall('SET', KEYS[2], ARGV[1] .. ':' .. ARGV[5], 'PX', ARGV[2], 'GET')
if type(before) == 'table' then
  return false
elseif before and before >= ARGV[1] then
  call('SET', KEYS[2], before, 'PX', ARGV[2])
-- include flushes
  return read_answer(before)
end

local entries, sent, at, now = ARGV[5] == '' and {}, 0, FIRST_SEND, nil
local made = {} -- the copies of the first send, by the place of the queue's record
while at < #ARGV do
  local kind, headers, ttl, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local send, after, ends = at + 4, at + 4 + 2 * count, {} -- `ends`: the words that say when a copy expires, if it does
  for queue = FIRST_QUEUE, #KEYS, 2 do
    local life = lives[queue] or ttl
    if life and not now then
-- include clock
      now = read_clock()
    end
    ends[queue] = life and {'expires', string.format('%.0f', now + math.min(life, ttl or life))} or NOTHING
  end
  if at == FIRST_SEND then
    for queue = FIRST_QUEUE, #KEYS, 2 do
      local added = redis.pcall('XADD', KEYS[queue + 1], 'NOMKSTREAM', '*', 'id', ARGV[send], 'type', kind, 'data',
        ARGV[send + 1], 'headers', headers, unpack(ends[queue]))
      if type(added) ~= 'string' then -- what refuses one copy refuses all
        if before then
          call('SET', KEYS[2], before, 'PX', ARGV[2])
        else
          call('DEL', KEYS[2])
        end
        for written, entry in pairs(made) do
          call('XDEL', KEYS[written + 1], entry)
        end
        return false
      end
      made[queue] = added
    end
    if entries then
      entries[1] = {'entry', made[FIRST_QUEUE]}
    end
    send = send + 2
  end
  for send = send, after - 1, 2 do -- the streams are there by now
    local id, data = ARGV[send], ARGV[send + 1]
    for queue = FIRST_QUEUE, #KEYS, 2 do
      local added = call('XADD', KEYS[queue + 1], '*', 'id', id, 'type', kind, 'data', data, 'headers', headers,
        unpack(ends[queue]))
      if entries then
        entries[#entries + 1] = {'entry', added}
      end
    end
  end
  sent, at = sent + count, after
end
local together = copies > 1 and counted == copies and table.concat(counters)
local all = together and redis.pcall('HINCRBY', KEYS[3], together, sent)
if all == sent and call('HLEN', KEYS[3]) > MOST_TOGETHER then -- it is new: too many sets of queues get messages together
  call('HDEL', KEYS[3], together)
  all = nil
end
for at = FIRST_QUEUE, type(all) == 'number' and 0 or #KEYS, 2 do
  call('HINCRBY', KEYS[at], 'sent', sent)
end

if entries then
-- include flushes
  remember_flush(KEYS[2], ARGV[1], entries, ARGV[2])
end
return entries or copies
