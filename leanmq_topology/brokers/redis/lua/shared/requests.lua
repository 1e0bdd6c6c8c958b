-- A request that nobody waits for any more is nothing to keep: its client was told that it took too long. Needs
-- `entries`. A header's name stands in quotes of its own; within a value they would be escaped.
local function is_request(fields)
  return string.find(find_value(fields, 'headers') or '', '"replyto":', 1, true) ~= nil
end
