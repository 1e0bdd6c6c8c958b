-- A reply goes to an inbox that is there; only its client makes one. It holds MOST_REPLIES: a client that reads none
-- for so long has forgotten the oldest.
local MOST_REPLIES = '10000'

-- Returns its place, false if there is no inbox, or the error reply.
local function add_reply(inbox, id, kind, data, failure)
  return redis.pcall('XADD', inbox, 'NOMKSTREAM', 'MAXLEN', MOST_REPLIES, '*', 'id', id, 'type', kind, 'data', data,
    'error', failure)
end

-- Returns whether it was put in.
local function put_reply(inbox, id, kind, data, failure)
  return type(add_reply(inbox, id, kind, data, failure)) == 'string'
end

local function count_late_reply(meta)
  redis.call('HINCRBY', meta, 'late_replies', 1)
end
