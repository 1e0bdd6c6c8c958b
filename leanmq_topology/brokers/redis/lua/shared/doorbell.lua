-- A queue has something due at that time. Who keeps the namespace up may be at rest for LONGEST_REST_MS: what is due
-- sooner than all they know of is told to them, on a channel with the name of the index. Nobody has to hear it: where
-- that is not allowed, or the line is down, they do not rest for so long.
local LONGEST_REST_MS = 5000

local function note_due(due, queue, when, now)
  local sooner = redis.call('ZADD', due, 'LT', 'CH', when, queue) == 1
  if sooner and when - now < LONGEST_REST_MS and redis.call('ZRANGE', due, 0, 0)[1] == queue then
    redis.pcall('PUBLISH', due, string.format('%.0f', when))
  end
end
