-- Read what sending to some queues and routes needs: their own record and digest, the queues behind a route,
-- and the message types all of them take. In one step, so that it never mixes two generations.
--
-- KEYS   1 {ns}:topology
-- ARGV   names of queues and routes
-- Returns [field, value, …] of the record; what is not there is left out

local answer, seen = {}, {}

local function add(field)
  if seen[field] then
    return nil
  end
  seen[field] = true
  local value = redis.call('HGET', KEYS[1], field)
  if value then
    answer[#answer + 1] = field
    answer[#answer + 1] = value
  end
  return value
end

local function add_types(types)
  for _, name in ipairs(types) do
    if type(name) == 'string' then -- a missing JSON value is cjson.null
      add('messages.' .. name)
    end
  end
end

local function add_queue(name)
  add('@' .. name)
  local entry = add('queues.' .. name)
  if entry then
    add_types(cjson.decode(entry).spec.accepts or {})
  end
end

local function add_route(name)
  local entry = add('routes.' .. name)
  if not entry then
    return
  end
  local spec = cjson.decode(entry).spec
  add_types(spec.accepts or {})
  add_types({spec.request or false, spec.reply or false, spec.error or false})
  if type(spec.queue) == 'string' then
    add_queue(spec.queue)
  end
  for _, target in ipairs(spec.to or {}) do
    add_queue(target.queue)
  end
end

for _, field in ipairs({'owner', 'format', 'generation', 'epoch', 'fingerprint'}) do
  add(field)
end
for _, name in ipairs(ARGV) do
  add_queue(name)
  add_route(name)
end
return answer
