-- The requests of a queue, for a step that takes away all of it: those among its first MOST_TOLD messages, or as many as
-- have MOST_READ bytes. Who waits for one behind them waits until its own deadline. Needs `entries` and `requests`.
local MOST_TOLD = 1000
local MOST_READ = 1024 * 1024
local SLICE = 16

-- What `tell_requester` reads of each.
local function find_requests(stream, delayed, bodies)
  local requests, seen, bytes = {}, 0, 0

  local function note(fields)
    seen = seen + 1
    for at = 1, #fields do
      bytes = bytes + #fields[at]
    end
    if is_request(fields) then
      requests[#requests + 1] = {'id', find_value(fields, 'id') or '', 'headers', find_value(fields, 'headers')}
    end
  end

  local after = '-'
  while seen < MOST_TOLD and bytes < MOST_READ do
    local entries = redis.call('XRANGE', stream, after, '+', 'COUNT', SLICE)
    for _, entry in ipairs(entries) do
      note(entry[2])
    end
    if #entries < SLICE then
      break
    end
    after = '(' .. entries[SLICE][1]
  end
  local left = bytes < MOST_READ and math.max(MOST_TOLD - seen, 0) or 0
  for _, member in ipairs(left > 0 and redis.call('ZRANGE', delayed, 0, left - 1) or {}) do
    local read, body = pcall(cmsgpack.unpack, redis.call('HGET', bodies, member) or '')
    if read and type(body) == 'table' and not body[8] then -- who waits for a parked one was told
      note({'id', body[1], 'data', body[3], 'headers', body[4]})
    end
    if bytes >= MOST_READ then
      break
    end
  end
  return requests
end
