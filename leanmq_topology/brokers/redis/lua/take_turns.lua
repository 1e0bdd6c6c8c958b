-- Of these queues, take on those that nobody has checked for a while: one worker checks each of them, not all.
--
-- KEYS   1 {ns}:upkeep
-- ARGV   1 how long a check is good for in ms   2… queues
-- Returns the names of those that are the caller's to check now
--
-- The no-op HDEL exempts the mark from the memory limit: a full server is checked too.

-- include clock

local now, good_for = read_clock(), tonumber(ARGV[1])
local mine = {}
for at = 2, #ARGV do
  local checked = tonumber(redis.call('HGET', KEYS[1], 'checked:' .. ARGV[at]) or '')
  if not checked or checked > now or now - checked >= good_for then
    mine[#mine + 1] = ARGV[at]
  end
end
if #mine > 0 then
  redis.call('HDEL', KEYS[1], '')
  for _, queue in ipairs(mine) do
    redis.call('HSET', KEYS[1], 'checked:' .. queue, string.format('%.0f', now))
  end
  redis.call('PEXPIRE', KEYS[1], 10 * good_for)
end
return mine
