-- The short way of `send`, for a flush to one queue, by whatever name, that nothing delays, limits or remembers: most
-- flushes are one. It does what the long way does, with half of the server's time. For `send`, before it reads its
-- forms; ends the script, or has written nothing and leaves everything to the long way.
local META = 6 -- of the queue; that of the address comes before it
local NAME, DIGEST, FORM, FIRST_SEND, WIDTH = 10, 11, 13, 21, 3

local function find_plain_life()
  if ARGV[6] ~= '1' or ARGV[7] ~= '1' or ARGV[8] ~= '1' or ARGV[FORM + 1] ~= '1' or ARGV[FORM + 7] ~= '0' then
    return nil -- more than one address, queue, form or copy, or markers
  end
  local found = redis.call('HMGET', KEYS[META], 'state', 'max_length', 'ttl_ms', 'delay_ms')
  local unhindered = found[1] ~= 'draining' and found[1] ~= 'retired' and found[2] == ''
  local wait = ARGV[FORM + 6] ~= '' and ARGV[FORM + 6] or found[4]
  if not unhindered or wait ~= '0' or (redis.call('HGET', KEYS[1], '@' .. ARGV[NAME]) or '') ~= ARGV[DIGEST] then
    return nil
  end
  return math.min(tonumber(found[3]) or math.huge, tonumber(ARGV[FORM + 5]) or math.huge)
end

local life = find_plain_life()
if life then
  local stream, kind, headers = KEYS[5], ARGV[FORM + 3], ARGV[FORM + 4]
  local expires = life < math.huge and string.format('%.0f', read_clock() + life) or ''
  local results = {}
  for at = FIRST_SEND, #ARGV, WIDTH do
    local added = redis.pcall('XADD', stream, 'NOMKSTREAM', '*', 'id', ARGV[at + 1], 'type', kind, 'data', ARGV[at + 2],
      'headers', headers, 'attempt', '0', 'expires', expires)
    if type(added) == 'string' then
      results[#results + 1] = tells_entries and {'entry', added} or 1
    else
      break -- at the first one, if at all: what refuses one refuses all
    end
  end
  if #results > 0 then
    redis.call('HINCRBY', KEYS[META], 'sent', #results)
    redis.call('SET', KEYS[2], cmsgpack.pack({sequence, results}), 'PX', marker_life)
    return results
  end
end
