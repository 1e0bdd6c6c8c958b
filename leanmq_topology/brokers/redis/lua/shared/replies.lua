-- A reply goes to an inbox that is there; only its client makes one. It holds about MOST_REPLIES: a client that reads
-- none for so long has forgotten the oldest. Returns whether it was put in.
local MOST_REPLIES = 10000

local function put_reply(inbox, id, kind, data, failure)
  local stored = redis.pcall('XADD', inbox, 'NOMKSTREAM', 'MAXLEN', '~', MOST_REPLIES, '*', 'id', id, 'type', kind,
    'data', data, 'error', failure)
  return type(stored) == 'string'
end

local function count_late_reply(meta)
  redis.call('HINCRBY', meta, 'late_replies', 1)
end
