-- Look at queue pairs without touching them: counts, age, group, state, counters.
--
-- KEYS   1 {ns}:sent   then for each queue, at most 500: {ns}:q:… {ns}:d:… {ns}:z:… {ns}:m:… {ns}:a:…
-- ARGV   1 group   2 nobody   3 suspects   then names of the counters to read
-- Returns {server time in ms, row, row, …}; a row is
--         {damage or '', what is wrong in words or '', entries, pending, consumers, id of the oldest entry or '',
--          delayed, parked, dead, kept, state or '', counter or false, …}
--
-- A key that holds something else is reported, not read: the row then has its damage and zeros. So is a queue whose
-- record does not say where it lies.

-- include placement
-- include clock
-- include entries
-- include groups
-- include delayed

local KEYS_PER_QUEUE = 5
local TYPES = {'stream', 'stream', 'zset', 'hash', 'stream'}
local FIRST_QUEUE = 2
local FIRST_COUNTER = 4 -- in ARGV
local STATE = 11 -- in a row; the counters follow

local places = {} -- what is wrong with them
for first = FIRST_QUEUE, #KEYS, KEYS_PER_QUEUE do
  local record = KEYS[first + 3]
  local tag = redis.pcall('HGET', record, 'tag')
  places[first] = type(tag) ~= 'table' and check_place(tag, record, KEYS[first])
  if places[first] and is_elsewhere(places[first]) then
    return places[first]
  end
end

-- Returns the damage, and what is wrong in words.
local function find_foreign(first)
  for offset, wanted in ipairs(TYPES) do
    local key = KEYS[first + offset - 1]
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= wanted then
      return 'wrong_type', key .. ' holds a ' .. found .. ', not a ' .. wanted
    end
  end
  if places[first] then
    return 'unplaced', KEYS[first + 3] .. ' does not say where the queue lies'
  end
end

-- What was handed back is held by nobody or under suspicion; neither is a consumer.
local function count_nobody(stream)
  local free = #redis.call('XPENDING', stream, ARGV[1], '-', '+', 1, ARGV[2])
  return free + #redis.call('XPENDING', stream, ARGV[1], '-', '+', 1, ARGV[3])
end

local function read_record(key)
  local fields = {'state'}
  for at = FIRST_COUNTER, #ARGV do
    fields[#fields + 1] = ARGV[at]
  end
  local record = redis.call('HMGET', key, 'counter', unpack(fields))
  return record, table.remove(record, 1)
end

-- What was sent to a queue along with others, by its `counter`: see `shortcut`.
local sums
local function count_along(counter)
  if not sums then
    sums = {}
    local rows = redis.pcall('HGETALL', KEYS[1])
    for at = 1, #rows, 2 do
      for one in string.gmatch(rows[at], ' (%d+)') do
        sums[one] = (sums[one] or 0) + tonumber(rows[at + 1])
      end
    end
  end
  return sums[counter]
end

local function look(first)
  local damage, wrong = find_foreign(first)
  if damage then
    return {damage, wrong, 0, 0, 0, '', 0, 0, 0, 0, ''}
  end
  local stream = KEYS[first]
  local parked = redis.call('ZCOUNT', KEYS[first + 2], PARKED, '+inf')
  local row = {
    '', '', redis.call('XLEN', stream), 0, 0, '', redis.call('ZCARD', KEYS[first + 2]) - parked, parked,
    redis.call('XLEN', KEYS[first + 1]), redis.call('XLEN', KEYS[first + 4]),
  }
  local record, counter = read_record(KEYS[first + 3])
  row[STATE] = record[1] or ''
  for at = 2, #record do
    local along = counter and ARGV[FIRST_COUNTER + at - 2] == 'sent' and count_along(counter)
    row[STATE + at - 1] = along and tonumber(record[at] or 0) + along or record[at]
  end
  if redis.call('EXISTS', stream) == 0 then
    row[1] = 'missing'
    return row
  end
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  row[6] = oldest and oldest[1] or ''
  local group = find_group(stream, ARGV[1])
  if not group then
    row[1] = 'group_gone'
    return row
  end
  row[4], row[5] = find_value(group, 'pending'), find_value(group, 'consumers') - count_nobody(stream)
  if not record[1] then
    row[1] = 'record_gone'
  end
  return row
end

local answer = {read_clock()}
for first = FIRST_QUEUE, #KEYS, KEYS_PER_QUEUE do
  answer[#answer + 1] = look(first)
end
return answer
