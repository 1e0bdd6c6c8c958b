-- Make a queue pair that no topology declares, unless it is there.
--
-- KEYS   1 {ns}:topology   2 {ns}:pairs   3 {ns}:sent   4 {ns}:q:<queue>   5 {ns}:m:<queue>
-- ARGV   1 group   2 queue   then the record of the queue: field, value…
-- Returns {'pair', when it was made in ms} | {'declared'} | {'wrong_type', key, its type}
--
-- Safe to repeat: what is there is left alone, and a pair that lost its group or its record gets it back. The group
-- starts at 0, so that nothing sent before is missed. A pair without a record is born now, as in `apply_chunk`.

-- include placed
-- include birth
-- include clock
-- include shortcut

local pairs_key, sent, stream, meta = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, queue = ARGV[1], ARGV[2]

if redis.call('HEXISTS', KEYS[1], '@' .. queue) == 1 then
  return {'declared'}
end
for key, wanted in pairs({[pairs_key] = 'hash', [sent] = 'hash', [stream] = 'stream', [meta] = 'hash'}) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= wanted then
    return {'wrong_type', key, found}
  end
end

local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
  return made
end
redis.call('HSETNX', meta, 'tag', string.match(stream, '^{([^{}]*)}'))
for at = 3, #ARGV, 2 do
  redis.call('HSETNX', meta, ARGV[at], ARGV[at + 1])
end
if redis.call('HSETNX', meta, 'state', 'active') == 1 then
  redis.call('HSET', meta, 'born', read_birth())
end
write_short(meta, stream, sent)
local before = redis.call('HGET', pairs_key, queue)
local created = before and string.match(before, '^%d+') or string.format('%.0f', read_clock())
redis.call('HSET', pairs_key, queue, created .. ' pair')
return {'pair', created}
