-- Dead-lettering. Needs `entries` and `delayed`, and `replies` and `requests` to add some.
--
-- `open_dead_letters` takes the keys {dead, meta, index, bodies, due} by name, the queue's name and the time. While
-- the dead-letter queue is at its limit, a message is parked instead. The caller removes the message from where it
-- was, after it was added here, and calls `count_dead_letters` once at the end. Who waits for a reply is told here.
local OUR_FIELDS = {'id', 'type', 'data', 'headers', 'attempt', 'expires'}
local DEFAULTS = {[5] = '0', [6] = ''} -- of what may be left out

-- include attempts

local function open_dead_letters(keys, queue, now)
  local limit = tonumber(redis.call('HGET', keys.meta, 'dead_max_length') or '')
  local room = limit and limit - redis.call('XLEN', keys.dead)
  return {keys = keys, queue = queue, now = now, room = room, added = 0, expired = 0}
end

local function park(letters, fields, reason, failure)
  local body, words, complete = {}, 0, true
  for at, name in ipairs(OUR_FIELDS) do
    local value = find_value(fields, name)
    words, complete = words + (value and 2 or 0), complete and (value or DEFAULTS[at])
    body[at] = value or DEFAULTS[at] or ''
  end
  body[7], body[8] = reason, failure
  if not complete or words ~= #fields or body[1] == '' then
    body[3], body[9] = '', fields
  end
  local keys = letters.keys
  put_delayed(keys.index, keys.bodies, body[1] ~= '' and body[1] or 'unnamed', body, PARKED)
  redis.call('ZADD', keys.due, 'LT', letters.now + PARKED_PAUSE_MS, letters.queue)
end

-- `attempts` replaces the entry's own unless it is ''.
local function add_dead_letter(letters, fields, attempts, reason, failure)
  if attempts ~= '' then
    set_attempts(fields, attempts)
  end
  if letters.room and letters.room < 1 then
    park(letters, fields, reason, failure)
  else
    write_copy(letters.keys.dead, fields, {'reason', reason, 'error', failure})
    letters.room = letters.room and letters.room - 1
  end
  tell_requester(letters.keys.meta, fields, failure, reason)
  letters.added = letters.added + 1
  letters.expired = letters.expired + (reason == 'expired' and 1 or 0)
end

-- The dead letter that a parked message was to become. It was counted when it was parked.
local function unpark(letters, body)
  local fields = body[9]
  if not fields then
    fields = {}
    for at, name in ipairs(OUR_FIELDS) do
      fields[2 * at - 1], fields[2 * at] = name, body[at]
    end
  end
  write_copy(letters.keys.dead, fields, {'reason', body[7], 'error', body[8]})
end

local function count_dead_letters(letters)
  if letters.added > 0 then
    redis.call('HINCRBY', letters.keys.meta, 'dead_lettered', letters.added)
  end
  if letters.expired > 0 then
    redis.call('HINCRBY', letters.keys.meta, 'expired', letters.expired)
  end
end
