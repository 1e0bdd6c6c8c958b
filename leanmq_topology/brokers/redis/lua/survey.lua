-- Look at the queues of a worker: are they whole, may they be read, who holds anything?
--
-- KEYS   {ns}:q:<queue>, {ns}:m:<queue> of each queue
-- ARGV   1 group   2 consumer   3 nobody   4 suspects
-- Returns for each {damage or '', state or '', pending, those of this consumer, those of nobody, suspects}
--
-- A queue whose record does not say where it lies is `unplaced`. Two commands a queue while all is well: every worker
-- asks this four times in three seconds while somebody holds anything.

local group, consumer, nobody, suspects = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- include placement

local function find_damage(stream, failure)
  if string.find(failure, 'WRONGTYPE', 1, true) then
    return 'wrong_type'
  end
  return redis.call('EXISTS', stream) == 1 and 'group_gone' or 'missing'
end

local function count(summary, holder)
  for _, row in ipairs(summary[4] or {}) do
    if row[1] == holder then
      return tonumber(row[2])
    end
  end
  return 0
end

local answer = {}
for at = 1, #KEYS, 2 do
  local record = redis.pcall('HMGET', KEYS[at + 1], 'state', 'visibility_ms', 'tag')
  local astray = not record.err and check_place(record[3], KEYS[at + 1], KEYS[at])
  if astray and is_elsewhere(astray) then
    return astray
  end
  local summary = redis.pcall('XPENDING', KEYS[at], group)
  if astray then
    answer[#answer + 1] = {'unplaced', '', 0, 0, 0, 0}
  elseif summary.err then
    answer[#answer + 1] = {find_damage(KEYS[at], summary.err), '', 0, 0, 0, 0}
  elseif record.err then
    answer[#answer + 1] = {'wrong_type', '', 0, 0, 0, 0}
  elseif not (record[1] and record[2]) then
    answer[#answer + 1] = {'record_gone', '', 0, 0, 0, 0}
  else
    local own, free, suspected = count(summary, consumer), count(summary, nobody), count(summary, suspects)
    answer[#answer + 1] = {'', record[1], summary[1], own, free, suspected}
  end
end
return answer
