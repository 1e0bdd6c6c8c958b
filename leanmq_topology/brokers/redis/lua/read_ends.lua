-- Where queues end right now: what comes later has a larger entry id.
--
-- KEYS   {ns}:q:<queue> of each queue, or {ns}:d:<queue>, then {ns}:m:<queue> of each
-- Returns the largest entry id that each ever gave out

-- include reachable
-- include entries

local ends = {}
for at = 1, #KEYS / 2 do
  local stream = KEYS[at]
  local holds_entries = redis.call('TYPE', stream).ok == 'stream'
  ends[at] = holds_entries and find_value(redis.call('XINFO', 'STREAM', stream), 'last-generated-id') or '0-0'
end
return ends
