-- The purges of a queue that can still be undone.
--
-- KEYS   1 {ns}:t:<queue>   2 {ns}:m:<queue>
-- Returns {{purge id, '[which, at in ms, kept for in ms, ready, in flight, delayed]'}, …}

-- include placed
-- include clock

local now = read_clock()
local found = {}
local flat = redis.call('HGETALL', KEYS[1])
for at = 1, #flat, 2 do
  local record = string.sub(flat[at + 1], 1, 1) == '[' and cjson.decode(flat[at + 1])
  if record and record[2] + record[3] > now then
    found[#found + 1] = {flat[at], flat[at + 1]}
  end
end
return found
