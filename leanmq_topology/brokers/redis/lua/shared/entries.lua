-- Entries of a stream as flat lists: field, value, field, value…
--
-- Lua hands at most about 8,000 values to a command at once, so an entry of more than WIDEST values (none of
-- ours: they have six fields at most) is copied whole into one field `packed`, as a MessagePack array of its values.
local WIDEST = 1000

local function read_entry(stream, id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  return entry and entry[2]
end

local function find_value(fields, name)
  for at = 1, #fields, 2 do
    if fields[at] == name then
      return fields[at + 1]
    end
  end
  return nil
end

-- The entry as it is, and what is `added` to it, if anything.
local function write_copy(stream, fields, added)
  local words = #fields > WIDEST and {'packed', cmsgpack.pack(fields)} or added and {unpack(fields)} or fields
  for _, word in ipairs(added or {}) do
    words[#words + 1] = word
  end
  redis.call('XADD', stream, '*', unpack(words))
end
