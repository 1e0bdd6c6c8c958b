-- Store one message in one queue which nothing delays, limits or remembers: `send_plain` of that alone, in half the
-- instructions. A send on its own finds the server at rest, where each of them takes many times what it does in a row.
--
-- KEYS   1 {ns}:topology   2 {ns}:p:<producer>   3 {ns}:m:<queue>   4 {ns}:q:<queue>
-- ARGV   1 to 4 as those of `send_plain`   5 type   6 headers   7 ttl in ms or ''   8 id   9 data
-- Returns 1 | what was answered before, to a flush that came again
--         | nil: something is in the way and nothing was written; `send`, under the same sequence, says what
--
-- In what order things are checked and written, and why: see `send_plain`. A queue without `short` goes the long way.

local call, stream = redis.call, KEYS[4]
if (call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[4] then
  return false
end
local short, ttl = call('HGET', KEYS[3], 'short'), ARGV[7]
local life = short and string.find(short, stream, 1, true) == 1 and string.match(short, '^ %d+ (%d*)$', #stream + 1)
if not life then
  return false
end

local before = redis.pcall('SET', KEYS[2], ARGV[1] .. ':\1', 'PX', ARGV[2], 'GET')
if before then
  if type(before) == 'table' then
    return false
  elseif before >= ARGV[1] then
    call('SET', KEYS[2], before, 'PX', ARGV[2])
-- include flushes
    return read_answer(before)
  end
end

local added
if life == '' and ttl == '' then
  added = redis.pcall('XADD', stream, 'NOMKSTREAM', '*', 'id', ARGV[8], 'type', ARGV[5], 'data', ARGV[9], 'headers',
    ARGV[6])
else
-- include clock
  if life == '' or ttl ~= '' and tonumber(ttl) < tonumber(life) then
    life = ttl
  end
  added = redis.pcall('XADD', stream, 'NOMKSTREAM', '*', 'id', ARGV[8], 'type', ARGV[5], 'data', ARGV[9], 'headers',
    ARGV[6], 'expires', string.format('%.0f', read_clock() + life))
end
if type(added) ~= 'string' then
  if before then
    call('SET', KEYS[2], before, 'PX', ARGV[2])
  else
    call('DEL', KEYS[2])
  end
  return false
end
call('HINCRBY', KEYS[3], 'sent', 1)
return 1
