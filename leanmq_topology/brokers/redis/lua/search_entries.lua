-- Look for a message among the entries of a stream, a bounded part at a time. Nothing is touched.
--
-- KEYS   1 {ns}:q:<queue>, {ns}:d:<queue>, {ns}:a:<queue>, or what a purge made of one of them
--        2 {ns}:m:<queue>   3 {ns}:t:<queue>, only for what a purge made
-- ARGV   1 group whose hand-outs are told, '' for a stream without one   2 entry id to go on after, '' for the start
--        3 how many to look at, at most   4 id of a message   5 text that may stand in headers, as they are stored
-- Returns {server time in ms, entry id to go on after or '' at the end, how many were looked at,
--          {{entry id, fields, consumer or '', idle in ms, delivery count}, …} with this id, or with this text}
--
-- Reads about 4 MiB, a slice in any case. A stream that is not there has no entries. What was acknowledged after the
-- purge that took it is passed over: it is done, and undoing the purge does not bring it back.

-- include placed
-- include clock
-- include entries

local MOST_BYTES = 4 * 1024 * 1024
local SLICE = 16

local stream, purges = KEYS[1], KEYS[3]
local group, after, most, id, text = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local found, looked_at, size = {}, 0, 0

local function is_wanted(entry)
  local fields = entry[2]
  return (find_value(fields, 'id') == id or string.find(find_value(fields, 'headers') or '', text, 1, true))
    and not (purges and redis.call('HEXISTS', purges, entry[1]) == 1)
end

local function describe(entry)
  local held = group ~= '' and redis.call('XPENDING', stream, group, entry[1], entry[1], 1)[1]
  if held then
    return {entry[1], entry[2], held[2], held[3], held[4]}
  end
  return {entry[1], entry[2], '', 0, 0}
end

if redis.call('TYPE', stream).ok ~= 'stream' then
  return {read_clock(), '', 0, {}}
end
while looked_at < most and size < MOST_BYTES do
  local wanted = math.min(SLICE, most - looked_at)
  local entries = redis.call('XRANGE', stream, after == '' and '-' or '(' .. after, '+', 'COUNT', wanted)
  for _, entry in ipairs(entries) do
    if is_wanted(entry) then
      found[#found + 1] = describe(entry)
    end
    for at = 1, #entry[2] do
      size = size + #entry[2][at]
    end
    after = entry[1]
  end
  looked_at = looked_at + #entries
  if #entries < wanted then
    return {read_clock(), '', looked_at, found}
  end
end
return {read_clock(), after, looked_at, found}
