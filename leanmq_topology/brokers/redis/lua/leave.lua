-- A worker that ends cleanly leaves nothing behind: its heartbeat goes, and its name wherever it holds nothing.
--
-- KEYS   1 {ns}:w:<worker>   then {ns}:q:<queue> of each queue, then {ns}:m:<queue> of each
-- ARGV   1 group   2 consumer
-- Returns how many queues it left
--
-- A consumer that still holds messages stays: deleting it would make them unreachable for every claimer.

-- include reachable

local group, consumer = ARGV[1], ARGV[2]

redis.call('DEL', KEYS[1])
local left = 0
for at = 2, (#KEYS + 1) / 2 do
  local held = redis.pcall('XPENDING', KEYS[at], group, '-', '+', 1, consumer)
  if not held.err and #held == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[at], group, consumer)
    left = left + 1
  end
end
return left
