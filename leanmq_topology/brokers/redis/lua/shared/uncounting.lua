-- A queue goes: what it got along with others (see `shortcut`) is from now on counted by the others' numbers alone.
local function forget_counter(record, sent)
  local counter = redis.pcall('HGET', record, 'counter')
  local rows = type(counter) == 'string' and redis.pcall('HGETALL', sent) or {}
  for at = 1, #rows, 2 do
    local others, found = string.gsub(rows[at] .. ' ', ' ' .. counter .. ' ', ' ')
    if found > 0 then
      redis.call('HDEL', sent, rows[at])
      others = string.sub(others, 1, -2)
      if others ~= '' then
        redis.call('HINCRBY', sent, others, rows[at + 1])
      end
    end
  end
end
