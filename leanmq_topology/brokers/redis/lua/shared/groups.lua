-- The groups of a stream that exists, and how far they came in it. Needs `entries`.

-- What the server tells of this group, as a flat list; nil if there is none of this name.
local function find_group(stream, group)
  for _, facts in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if find_value(facts, 'name') == group then
      return facts
    end
  end
  return nil
end

-- Whatever comes after it was never handed out.
local function find_last_delivered(stream, group)
  local facts = find_group(stream, group)
  return facts and find_value(facts, 'last-delivered-id')
end

-- Of two entry ids, whether the first was added later.
local function is_after(id, other)
  local ms, rest = string.match(id, '^(%d+)-(%d+)$')
  local other_ms, other_rest = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms > other_ms or (ms == other_ms and tonumber(rest) > tonumber(other_rest))
end
