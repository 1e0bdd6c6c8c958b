-- Requests: messages whose sender waits for a reply. Needs `entries` and `replies`.
--
-- A header's name stands in quotes of its own; within a value they would be escaped.
local function is_request(fields)
  return string.find(find_value(fields, 'headers') or '', '"replyto":', 1, true) ~= nil
end

-- Who waits learns in the very step that takes the request away that no value will come. The key of its inbox is made
-- from the header, as nobody knows beforehand which requests a step will meet: it has the hash tag of the namespace, so
-- it lies in the slot of the record. `meta` is the key of the queue's record; `failure` is JSON.
--
-- One that expired is nothing to keep, for its client asked for no more time than that, or learns now that its queue
-- gives less. If that client is gone, that is no late reply.
local function tell_requester(meta, fields, failure, reason)
  if not is_request(fields) then
    return
  end
  local read, headers = pcall(cjson.decode, find_value(fields, 'headers'))
  local inbox = read and type(headers) == 'table' and headers.replyto
  if type(inbox) ~= 'string' or not string.find(inbox, '^%w+$') then
    return
  end
  local key = string.match(meta, '^(.*:)m:[^:]*$') .. 'r:' .. inbox
  if not put_reply(key, find_value(fields, 'id') or '', '', '', failure) and reason ~= 'expired' then
    count_late_reply(meta)
  end
end
