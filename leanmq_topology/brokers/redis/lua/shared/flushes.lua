-- The last flush of a producer, as its marker holds it: its sequence, `:`, and what was answered (MessagePack).
local function read_sequence(marker)
  return tonumber(string.match(marker, '^%d+'))
end

local function read_answer(marker)
  return cmsgpack.unpack(string.match(marker, '^%d+:(.*)$'))
end

local function remember_flush(producer, sequence, answer, life)
  redis.call('SET', producer, sequence .. ':' .. cmsgpack.pack(answer), 'PX', life)
end
