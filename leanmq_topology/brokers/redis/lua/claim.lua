-- Take over deliveries whose lease has lapsed, a bounded stretch at a time. What may not be handed out again leaves
-- the queue right here: past its limit of deliveries or crashes, or expired.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:d:<queue>   4 {ns}:z:<queue>   5 {ns}:b:<queue>   6 {ns}:due
--        7 {ns}:c:<queue>
-- ARGV   1 group   2 consumer   3 cursor   4 how many at most   5 queue   6 nobody
--        7 8 9 error (JSON) of a dead letter that lapsed, crashed, expired   10 suspects
--        11 which: '' all, 'fresh' what no counted hand-out is known of, 'suspect' what there is of the others
--        12… entry ids that the consumer holds
-- Returns {next cursor, {{entry id, delivery count with this one, fields}, …}}, or false: not applied
--
-- The lease comes from the queue's own record, so that a claimer with an old idea of it steals nothing. The cursor
-- is kept by the caller: starting from the front each time never reaches what lies behind many live leases. A call
-- looks at ten times as many entries as it may take, and takes about 4 MiB, one message in any case: a server that
-- copies a hundred large bodies serves nobody meanwhile. An entry that is gone while still pending is acknowledged
-- away (servers before 7.0 leave such ghosts) and counted as vanished: somebody deleted it. What the consumer holds is
-- not handed to it a second time: it only learns that it has it for another lease. The no-op XACK exempts what follows
-- it from the memory limit: poison can leave a full server.

-- include placement
-- include clock
-- include entries
-- include replies
-- include requests
-- include delayed
-- include dead_letters
-- include crashes

local MOST_BYTES = 4 * 1024 * 1024

local stream, group, consumer, nobody, suspects = KEYS[1], ARGV[1], ARGV[2], ARGV[6], ARGV[10]
local keys = {meta = KEYS[2], dead = KEYS[3], index = KEYS[4], bodies = KEYS[5], due = KEYS[6]}
local crashes = redis.call('EXISTS', KEYS[7]) == 1 and KEYS[7]

local limits = redis.call('HMGET', keys.meta, 'visibility_ms', 'max_deliveries', 'max_crashes', 'on_expire',
  'tag')
local lease, most_deliveries, most_crashes = limits[1], tonumber(limits[2] or ''), tonumber(limits[3] or '')
local astray = check_place(limits[5], keys.meta, stream)
if astray then
  return astray
elseif not lease then
  return false
end
local now = read_clock()
local letters = open_dead_letters(keys, ARGV[5], now)
local discarded, vanished = 0, 0

-- Why a message may not be handed out once more, with the error to be kept beside it; nil: it may.
local function judge(id, fields, runs)
  local expires = tonumber(find_value(fields, 'expires') or '')
  if crashes and most_crashes and read_crashes(crashes, id, fields) >= most_crashes then
    return 'crashed', ARGV[8]
  elseif most_deliveries and runs >= most_deliveries then
    return 'failed', ARGV[7]
  elseif expires and now >= expires then
    return 'expired', ARGV[9]
  end
  return nil
end

local function remove(id, fields, runs, reason, failure)
  if reason == 'expired' and (limits[4] == 'discard' or is_request(fields)) then
    tell_requester(keys.meta, fields, failure, reason)
    discarded = discarded + 1
  else
    add_dead_letter(letters, fields, string.format('%.0f', runs), reason, failure)
  end
  if crashes then
    forget_crashes(crashes, id, fields)
  end
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
end

local known = {}
for at = 12, #ARGV do
  known[ARGV[at]] = true
end
local claimed, taken, size = {}, 0, 0

local function weigh(fields)
  for at = 1, #fields do
    size = size + #fields[at]
  end
end

local function take(id, count)
  local fields = read_entry(stream, id)
  taken = taken + 1
  if not fields then
    redis.call('XACK', stream, group, id)
    vanished = vanished + 1
    return
  end
  weigh(fields)
  if known[id] then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
    claimed[#claimed + 1] = {id, count, fields}
    return
  end
  local runs = (tonumber(find_value(fields, 'attempt') or '') or 0) + count
  local reason, failure = judge(id, fields, runs)
  if reason then
    remove(id, fields, runs, reason, failure)
  else
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', count + 1, 'JUSTID')
    claimed[#claimed + 1] = {id, count + 1, fields}
  end
end

-- A hand-out that is still counted ended without a word of its worker: what it brought may have been what took that
-- worker down. A claimer of fresh ones puts such a message under suspicion, once, so that others need not look for it.
local function claim(part)
  local most, look_at = tonumber(ARGV[4]), 10 * tonumber(ARGV[4])
  local from = ARGV[3] == '0-0' and '-' or '(' .. ARGV[3]
  local rows = redis.call('XPENDING', stream, group, from, '+', look_at)
  for at, row in ipairs(rows) do
    local id, holder, idle, count = row[1], row[2], row[3], row[4]
    if idle >= tonumber(lease) then
      local suspect = count > 0 and not known[id]
      if part == '' or known[id] or suspect == (part == 'suspect') then
        take(id, count)
      elseif suspect and holder ~= suspects then
        redis.call('XCLAIM', stream, group, suspects, 0, id, 'IDLE', lease, 'RETRYCOUNT', count, 'JUSTID')
      end
    end
    if taken == most or size >= MOST_BYTES then
      return at == #rows and #rows < look_at and '0-0' or id
    end
  end
  return #rows == look_at and rows[look_at][1] or '0-0'
end

redis.call('XACK', stream, group, '0-0')
local cursor = claim(ARGV[11])
count_dead_letters(letters)
if vanished > 0 then
  redis.call('HINCRBY', keys.meta, 'vanished', vanished)
end
if discarded > 0 then
  redis.call('HINCRBY', keys.meta, 'expired', discarded)
  redis.call('HINCRBY', keys.meta, 'discarded', discarded)
end
for _, holder in ipairs({nobody, suspects}) do
  if #redis.call('XPENDING', stream, group, '-', '+', 1, holder) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, holder)
  end
end
return {cursor, claimed}
