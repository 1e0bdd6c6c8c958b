-- Count a crash against deliveries whose process died while it ran them, each alone. They are free to be claimed, under
-- suspicion, and the run counts; one at its limit of crashes, or of deliveries, goes to the dead-letter queue instead.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:d:<queue>   4 {ns}:z:<queue>   5 {ns}:b:<queue>   6 {ns}:due
--        7 {ns}:c:<queue>
-- ARGV   1 group   2 consumer that died   3 queue   4 suspects
--        5 6 error (JSON) of a dead letter at its limit of crashes, of deliveries   then for each: entry id, delivery
--        count
-- Returns for each 1 (was held as told, and the crash is counted) or 0 (nothing was changed)
--
-- Called by whoever saw the process die. A retry keeps the message's id, and so its crashes.

-- include placed
-- include ownership
-- include clock
-- include entries
-- include replies
-- include requests
-- include delayed
-- include dead_letters
-- include crashes
-- include look_call

local FIRST = 7
local stream, crashes = KEYS[1], KEYS[7]
local keys = {meta = KEYS[2], dead = KEYS[3], index = KEYS[4], bodies = KEYS[5], due = KEYS[6]}
local group, consumer, queue, suspects = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local limits = redis.call('HMGET', keys.meta, 'visibility_ms', 'max_crashes', 'max_deliveries')
local lease, most_crashes, most_deliveries = limits[1], tonumber(limits[2] or ''), tonumber(limits[3] or '')
local letters = open_dead_letters(keys, queue, read_clock())

-- The error that is kept beside a message which was run for the last time; nil: it may be run once more.
local function find_end(crashed, runs)
  if most_crashes and crashed >= most_crashes then
    return ARGV[5]
  elseif most_deliveries and runs >= most_deliveries then
    return ARGV[6]
  end
  return nil
end

redis.call('XACK', stream, group, '0-0')
local answer, freed = {}, false
for at = FIRST, #ARGV, 2 do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local fields = lease and is_ours(stream, group, consumer, id, count) and read_entry(stream, id)
  answer[#answer + 1] = fields and 1 or 0
  if fields then
    local runs = (tonumber(find_value(fields, 'attempt') or '') or 0) + count
    local failure = find_end(redis.call('HINCRBY', crashes, name_of(id, fields), 1), runs)
    if failure then
      add_dead_letter(letters, fields, string.format('%.0f', runs), 'crashed', failure)
      forget_crashes(crashes, id, fields)
      redis.call('XACK', stream, group, id)
      redis.call('XDEL', stream, id)
    else
      redis.call('XCLAIM', stream, group, suspects, 0, id, 'IDLE', lease, 'RETRYCOUNT', count, 'JUSTID')
      freed = true
    end
  end
end
count_dead_letters(letters)
if freed then
  call_to_look(keys.due)
end
return answer
