-- Room in a queue that has a limit, and what can make some: expired messages at its head, and the oldest that were
-- not handed out yet. What was handed out is never touched. Needs `groups`.
--
-- A queue is a table with `stream` and `room`, which may be below 1. Nothing is written here: what is taken off the
-- head is gathered in `swept`, for the caller to remove. A script reads at most
-- MOST_READ bytes and sweeps at most MOST_SWEPT entries; a queue that needs more stays full until the next one.
local MOST_READ = 4 * 1024 * 1024
local MOST_SWEPT = 1000
local SLICE = 16
local unread, unswept = MOST_READ, MOST_SWEPT

local function read_slice(head, stream)
  head.entries, head.place = redis.call('XRANGE', stream, '(' .. head.after, '+', 'COUNT', SLICE), 1
  for _, entry in ipairs(head.entries) do
    head.after = entry[1]
    for at = 1, #entry[2] do
      unread = unread - #entry[2][at]
    end
  end
end

-- The oldest entry that nobody got and that was not taken off yet.
local function peek_head(queue, group)
  local head = queue.head
  if not head then
    local after = find_last_delivered(queue.stream, group)
    head = {entries = {}, place = 1, after = after, ended = not after}
    queue.head = head
  end
  if not head.entries[head.place] and not head.ended and unread > 0 then
    read_slice(head, queue.stream)
    head.ended = #head.entries < SLICE
  end
  return head.entries[head.place]
end

-- False while there may be more than one script reads.
local function is_head_taken(queue)
  return queue.head.ended and not queue.head.entries[queue.head.place]
end

local function take_head(queue)
  queue.head.place = queue.head.place + 1
end

-- Sweeps no more than it needs. `may_sweep` says whether there is a place for what is swept.
local function has_room(queue, group, now, may_sweep)
  while queue.room < 1 and unswept > 0 do
    local entry = peek_head(queue, group)
    local expires = entry and tonumber(find_value(entry[2], 'expires') or '')
    if not expires or expires > now or not may_sweep(queue) then
      return false
    end
    take_head(queue)
    queue.swept[#queue.swept + 1] = entry
    queue.room, unswept = queue.room + 1, unswept - 1
  end
  return queue.room >= 1
end
