-- Count what waits although its time is over: messages that nobody got yet, from a place on. Nothing is touched.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2 entry id to go on after, '' for the first that nobody got   3 how many to look at, at most
-- Returns {entry id to go on after, '' at the end; how many expired; how many were looked at}
--
-- Reads about 4 MiB, a slice in any case. A queue that is not there has nothing that waits.

-- include placed
-- include clock
-- include entries
-- include groups

local MOST_BYTES = 4 * 1024 * 1024
local SLICE = 16

local stream, most = KEYS[1], tonumber(ARGV[3])
local last = redis.call('TYPE', stream).ok == 'stream' and find_last_delivered(stream, ARGV[1])
if not last then
  return {'', 0, 0}
end
local after, now = last, read_clock()
if ARGV[2] ~= '' and is_after(ARGV[2], last) then
  after = ARGV[2]
end

local size, expired, looked_at = 0, 0, 0

local function look_at(entry)
  local expires = tonumber(find_value(entry[2], 'expires') or '')
  expired = expired + (expires and now >= expires and 1 or 0)
  looked_at = looked_at + 1
  for at = 1, #entry[2] do
    size = size + #entry[2][at]
  end
end

while looked_at < most and size < MOST_BYTES do
  local wanted = math.min(SLICE, most - looked_at)
  local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', wanted)
  for _, entry in ipairs(entries) do
    look_at(entry)
    after = entry[1]
  end
  if #entries < wanted then
    return {'', expired, looked_at}
  end
end
return {after, expired, looked_at}
