-- A reply goes to an inbox that is there; only its client makes one. `first` is the place of the inbox's capacity in
-- the arguments; id of the request, type, data and error follow. Returns whether it was put in.
local function put_reply(inbox, meta, arguments, first)
  local stored = redis.call('XADD', inbox, 'NOMKSTREAM', 'MAXLEN', '~', arguments[first], '*', 'id',
    arguments[first + 1], 'type', arguments[first + 2], 'data', arguments[first + 3], 'error', arguments[first + 4])
  if not stored then
    redis.call('HINCRBY', meta, 'late_replies', 1)
  end
  return stored
end
