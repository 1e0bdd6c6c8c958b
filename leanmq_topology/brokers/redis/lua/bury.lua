-- Move messages to the dead-letter queue by hand: delivered or not, whoever holds them. Safe to repeat.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:d:<queue>   4 {ns}:z:<queue>   5 {ns}:b:<queue>   6 {ns}:due
--        7 {ns}:c:<queue>
-- ARGV   1 group   2 queue   3 reason   4 error (JSON)   5… entry ids, at most 1,000
-- Returns how many were there and are moved
--
-- Who holds one of them finds it gone when it settles. The new home exists before the entry goes; the no-op XACK lets
-- the move through on a server over its memory limit.

-- include placed
-- include clock
-- include entries
-- include replies
-- include requests
-- include delayed
-- include dead_letters
-- include crashes

local stream, group = KEYS[1], ARGV[1]
local keys = {meta = KEYS[2], dead = KEYS[3], index = KEYS[4], bodies = KEYS[5], due = KEYS[6]}
local crashes = redis.call('EXISTS', KEYS[7]) == 1 and KEYS[7]

local letters = open_dead_letters(keys, ARGV[2], read_clock())
redis.call('XACK', stream, group, '0-0')
for at = 5, #ARGV do
  local id = ARGV[at]
  local fields = read_entry(stream, id)
  if fields then
    local held = redis.call('XPENDING', stream, group, id, id, 1)[1]
    local runs = (tonumber(find_value(fields, 'attempt') or '') or 0) + (held and held[4] or 0)
    if crashes then
      forget_crashes(crashes, id, fields)
    end
    add_dead_letter(letters, fields, string.format('%.0f', runs), ARGV[3], ARGV[4])
    redis.call('XACK', stream, group, id)
    redis.call('XDEL', stream, id)
  end
end
count_dead_letters(letters)
return letters.added
