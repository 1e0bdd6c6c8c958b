-- What waits for its time: an index by due time, and the packed message beside it. Two messages may carry one
-- id; neither may take the other's place.
--
-- A packed message is {id, type, data, headers, attempt, expires}. A parked one goes on with its final {reason,
-- error} and, if it is not one of ours, all its fields as they were. Parked means: on its way to a dead-letter
-- queue that is full. It lies at a time that never comes, is never handed out again, and moves when there is room.
local PARKED = '9007199254740992'
local PARKED_PAUSE_MS = 1000 -- how long until the move is tried again

local function put_delayed(index, bodies, id, body, when)
  local member = id
  while redis.call('HEXISTS', bodies, member) == 1 do
    member = member .. '+'
  end
  redis.call('HSET', bodies, member, cmsgpack.pack(body))
  redis.call('ZADD', index, when, member)
end
