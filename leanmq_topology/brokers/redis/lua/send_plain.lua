-- Store a flush the short way: sends to one address, each with a copy in the same queues, which nothing delays, limits
-- or remembers. Most flushes are such, and `send` takes the server twice as long for them.
--
-- KEYS   1 {ns}:topology   2 {ns}:p:<producer>   then {ns}:m:<queue>, {ns}:q:<queue> of each queue
-- ARGV   1 sequence   2 life of the producer's marker in ms   3 the address's field in {ns}:topology   4 its digest
--        ('': a pair that no topology declares)   5 '1': tell entry ids
--        then for sends in a row that have it in common: type, headers, ttl in ms or '', how many they are, and id,
--        data of each
-- Returns how many copies each send made | {'entry', id} of each: its only copy, where ids are asked for
--        | nil: something is in the way and nothing was written; `send`, under the same sequence, says what
--
-- As in `send`, everything is checked before anything is written, the first write is an XADD, and the marker comes
-- after what it stands for.

-- include flushes

local FIRST_QUEUE, FIRST_SEND = 3, 6
local marker = redis.call('GET', KEYS[2])
if marker and read_sequence(marker) >= tonumber(ARGV[1]) then
  return read_answer(marker)
end
if (redis.call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[4] then
  return false
end

local lives = {} -- of what lies in each queue, by the place of its record
local copies = (#KEYS - FIRST_QUEUE + 1) / 2
for at = FIRST_QUEUE, #KEYS, 2 do
  local found = redis.call('HMGET', KEYS[at], 'state', 'max_length', 'delay_ms', 'ttl_ms', 'tag')
  local refuses = found[1] == 'draining' or found[1] == 'retired'
  local place = '{' .. (found[5] or '') .. '}'
  if refuses or found[2] ~= '' or found[3] ~= '0' or string.sub(KEYS[at + 1], 1, #place) ~= place then
    return false
  elseif copies > 1 and redis.call('TYPE', KEYS[at + 1]).ok ~= 'stream' then
    return false -- a single one says so itself, at its first XADD
  end
  lives[at] = found[4] ~= '' and tonumber(found[4]) or nil
end

local function find_expiry(life, ttl)
-- include clock
  return string.format('%.0f', read_clock() + math.min(life or math.huge, tonumber(ttl) or math.huge))
end

local add, entries, sent, at = redis.pcall, ARGV[5] == '1' and {}, 0, FIRST_SEND
while at < #ARGV do
  local kind, headers, ttl, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local first, after = at + 4, at + 4 + 2 * count
  for queue = FIRST_QUEUE, #KEYS, 2 do
    local stream = KEYS[queue + 1]
    local expires = (lives[queue] or ttl ~= '') and find_expiry(lives[queue], ttl) or ''
    for send = first, after - 1, 2 do
      local added = add('XADD', stream, 'NOMKSTREAM', '*', 'id', ARGV[send], 'type', kind, 'data', ARGV[send + 1],
        'headers', headers, 'attempt', '0', 'expires', expires)
      if type(added) ~= 'string' then
        return false -- the first one: what refuses one refuses all
      end
      add = redis.call
      if entries then
        entries[#entries + 1] = {'entry', added}
      end
    end
  end
  sent, at = sent + count, after
end
for at = FIRST_QUEUE, #KEYS, 2 do
  redis.call('HINCRBY', KEYS[at], 'sent', sent)
end

local answer = entries or copies
remember_flush(KEYS[2], ARGV[1], answer, ARGV[2])
return answer
