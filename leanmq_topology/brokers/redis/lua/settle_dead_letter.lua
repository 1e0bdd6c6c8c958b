-- Move deliveries to the dead-letter queue, as they are, with the reason beside them. While it is full they are
-- parked: out of their queue, in the delayed set, on their way there.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:d:<queue>   4 {ns}:z:<queue>   5 {ns}:b:<queue>   6 {ns}:due
--        7 {ns}:c:<queue>
-- ARGV   1 group   2 consumer   3 queue   then for each: entry id, delivery count, attempts or '' (leave as it is),
--        reason, error (JSON)
-- Returns for each 1 (was ours and is moved) or 0 (somebody else's by now; nothing was changed)
--
-- Foreign entries move with whatever fields they have. The new home exists before the entry goes; the no-op XACK
-- lets the move through on a server over its memory limit.

-- include placement
-- include ownership
-- include clock
-- include entries
-- include replies
-- include requests
-- include delayed
-- include dead_letters
-- include crashes

local stream, group, consumer, queue = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local keys = {meta = KEYS[2], dead = KEYS[3], index = KEYS[4], bodies = KEYS[5], due = KEYS[6]}
local astray = check_place(redis.call('HGET', keys.meta, 'tag'), keys.meta, stream)
if astray then
  return astray
end
local crashes = redis.call('EXISTS', KEYS[7]) == 1 and KEYS[7]

local letters = open_dead_letters(keys, queue, read_clock())
redis.call('XACK', stream, group, '0-0')
local answer = {}
for at = 4, #ARGV, 5 do
  local id = ARGV[at]
  local fields = is_ours(stream, group, consumer, id, tonumber(ARGV[at + 1])) and read_entry(stream, id)
  answer[#answer + 1] = fields and 1 or 0
  if fields then
    if crashes then
      forget_crashes(crashes, id, fields)
    end
    add_dead_letter(letters, fields, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
    redis.call('XACK', stream, group, id)
    redis.call('XDEL', stream, id)
  end
end
count_dead_letters(letters)
return answer
