-- What becomes of a send to queues with a limit, and making the room that was found for it. For `send`, after it has
-- read its forms; needs `entries`, `replies`, `requests`, `dead_letters`, `crashes`, `room`, and its `count`, `group`, `now`, `fates`.
local OVERFLOW = '{"type":"Overflow","message":"the queue was at its max_length of %d"}'
local EXPIRED = '{"type":"Expired","message":"expired %d ms before it could start"}'

-- A key that holds something else must fail here, not between two writes.
local function check_homes(queue)
  if not queue.is_checked then
    redis.call('XLEN', queue.dead)
    redis.call('HLEN', queue.crashes)
    queue.is_checked = true
  end
end

local function may_dead_letter(queue)
  queue.letters = queue.letters or open_dead_letters(queue, queue.name, now)
  return not queue.letters.room or queue.letters.room > queue.dying
end

local function may_sweep(queue)
  local may = queue.discards or may_dead_letter(queue)
  queue.dying = queue.dying + (may and not queue.discards and 1 or 0)
  return may
end

-- What this flush placed itself is younger than all that lay there before.
local function can_drop(queue)
  return peek_head(queue, group) or is_head_taken(queue) and queue.placed[queue.first_placed]
end

local function can_take(queue)
  if queue.room < 1 then
    check_homes(queue)
  end
  return has_room(queue, group, now, may_sweep)
    or queue.overflow == 'drop_oldest' and can_drop(queue)
    or queue.overflow == 'dead_letter' and may_dead_letter(queue)
end

local function drop_one(queue)
  local oldest = peek_head(queue, group)
  if oldest then
    take_head(queue)
    queue.dropped[#queue.dropped + 1] = oldest
  else
    local own = queue.placed[queue.first_placed]
    queue.first_placed = queue.first_placed + 1
    fates[own.send] = fates[own.send] or {}
    fates[own.send][own.copy] = 'dropped'
  end
end

-- Takes the room that `can_take` found. Returns the fate of the copy.
local function take(queue, wait, send, copy)
  if queue.room >= 1 then
    queue.room = queue.room - 1
  elseif queue.overflow == 'drop_oldest' then
    drop_one(queue)
  else
    queue.dying = queue.dying + 1
    return 'dead'
  end
  if queue.overflow == 'drop_oldest' and wait == 0 then
    queue.placed[#queue.placed + 1] = {send = send, copy = copy}
  end
  return nil
end

-- Finds room for all copies of a send or takes none. Returns the answer for one that does not fit.
local function fit(form, known, send)
  for copy, target in ipairs(form.copies) do
    if target.queue.limit and not known[copy] and not can_take(target.queue) then
      return {'full', target.queue.name, target.queue.limit}
    end
  end
  local fate = {}
  for copy, target in ipairs(form.copies) do
    fate[copy] = known[copy] and 'known' or target.queue.limit and take(target.queue, target.wait, send, copy)
  end
  fates[send] = fate
  return nil
end

local function bury(target, form, id, data)
  local fields = {'id', id, 'type', form.type, 'data', data, 'headers', form.headers, unpack(target.words)}
  add_dead_letter(target.queue.letters, fields, '', 'overflow', string.format(OVERFLOW, target.queue.limit))
  count(target.queue.counts, 'overflowed')
  wrote = true
end

-- What was to make room for a later one of the same flush, and so never gets in.
local function drop(target, form, id)
  local fields = {'id', id, 'headers', form.headers}
  tell_requester(target.queue.meta, fields, string.format(OVERFLOW, target.queue.limit), 'overflow')
  count(target.queue.counts, 'dropped')
end

local function remove(queue, entry)
  forget_crashes(queue.crashes, entry[1], entry[2])
  redis.call('XDEL', queue.stream, entry[1])
end

local function clear_swept(queue)
  if #queue.swept > 0 then
    -- A move between homes, which the memory limit must not stop; what is new was held to it by now.
    redis.call('XACK', queue.stream, group, '0-0')
  end
  local discarded = 0
  for _, entry in ipairs(queue.swept) do
    local failure = string.format(EXPIRED, now - tonumber(find_value(entry[2], 'expires')))
    if queue.discards or is_request(entry[2]) then
      tell_requester(queue.meta, entry[2], failure, 'expired')
      discarded = discarded + 1
    else
      add_dead_letter(queue.letters, entry[2], '', 'expired', failure)
    end
    remove(queue, entry)
  end
  if discarded > 0 then
    count(queue.counts, 'expired', discarded)
    count(queue.counts, 'discarded', discarded)
  end
end

local function clear_dropped(queue)
  for _, entry in ipairs(queue.dropped) do
    tell_requester(queue.meta, entry[2], string.format(OVERFLOW, queue.limit), 'overflow')
    remove(queue, entry)
  end
  if #queue.dropped > 0 then
    count(queue.counts, 'dropped', #queue.dropped)
  end
end

local function clear(queue, withheld)
  clear_swept(queue)
  if not withheld then
    clear_dropped(queue)
  end
  if queue.letters then
    count_dead_letters(queue.letters)
  end
end
