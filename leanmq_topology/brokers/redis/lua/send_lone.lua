-- Store one message in one queue which nothing delays, limits or remembers: `send_plain` of that alone, in half the
-- instructions. A send on its own finds the server at rest, where each of them takes many times what it does in a row.
--
-- KEYS   1 {ns}:topology   2 {ns}:p:<producer>   3 {ns}:m:<queue>   4 {ns}:q:<queue>
-- ARGV   those of `send_plain` for one send, but for 5: the tag under which the sender took the queue to lie
-- Returns 1 | what was answered before, to a flush that came again
--         | nil: something is in the way and nothing was written; `send`, under the same sequence, says what
--
-- In what order things are checked and written, and why: see `send_plain`.

local call = redis.call
if (call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[4] then
  return false
end
local found = call('HMGET', KEYS[3], 'state', 'max_length', 'delay_ms', 'ttl_ms', 'tag')
local state, life, ttl = found[1], found[4] or '', ARGV[8]
if found[2] ~= '' or found[3] ~= '0' or found[5] ~= ARGV[5] or state == 'draining' or state == 'retired' then
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

local expires = ''
if life ~= '' or ttl ~= '' then
-- include clock
  life = tonumber(life) or tonumber(ttl)
  expires = string.format('%.0f', read_clock() + math.min(life, tonumber(ttl) or life))
end
local added = redis.pcall('XADD', KEYS[4], 'NOMKSTREAM', '*', 'id', ARGV[10], 'type', ARGV[6], 'data', ARGV[11],
  'headers', ARGV[7], 'attempt', '0', 'expires', expires)
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
