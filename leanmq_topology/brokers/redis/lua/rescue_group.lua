-- Make the group of a queue again after somebody destroyed it.
--
-- KEYS   1 {ns}:topology   2 {ns}:q:<queue>   3 {ns}:m:<queue>   4 {ns}:pairs
-- ARGV   1 group   2 queue
-- Returns how many messages will be handed out (again), or -1: nothing was missing, or it is not ours to make
--
-- Only on a stream that is there, of a queue that is applied or was made by a call. A stream holds only what is not acknowledged, so from
-- its beginning on it is exactly the unfinished work; how often that was handed out before is not known any more. The
-- no-op XACK exempts this from the memory limit.

-- include placed
-- include entries
-- include groups

local stream, meta, group = KEYS[2], KEYS[3], ARGV[1]

local is_known = redis.call('HEXISTS', KEYS[1], 'queues.' .. ARGV[2]) == 1
  or redis.call('HEXISTS', KEYS[4], ARGV[2]) == 1
if not is_known or redis.call('TYPE', stream).ok ~= 'stream' or not redis.call('HGET', meta, 'state') then
  return -1
end
if find_group(stream, group) then
  return -1
end
redis.call('XACK', stream, group, '0-0')
redis.call('XGROUP', 'CREATE', stream, group, '0')
return redis.call('XLEN', stream)
