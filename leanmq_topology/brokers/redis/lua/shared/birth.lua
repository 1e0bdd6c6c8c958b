-- The server's time in microseconds: no two queues of one name are born at the same time.
local function read_birth()
  local time = redis.call('TIME')
  return time[1] .. string.format('%06d', time[2])
end
