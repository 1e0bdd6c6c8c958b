-- How often a message took its process down with it, by message id; an entry without one goes by its entry id.
-- The hash is made by the first crash, so that a queue which never saw one pays a single EXISTS. Needs `entries`.
local function name_of(id, fields)
  local name = find_value(fields, 'id')
  return name and name ~= '' and name or id
end

local function read_crashes(crashes, id, fields)
  return tonumber(redis.call('HGET', crashes, name_of(id, fields)) or '0')
end

local function forget_crashes(crashes, id, fields)
  redis.call('HDEL', crashes, name_of(id, fields))
end
