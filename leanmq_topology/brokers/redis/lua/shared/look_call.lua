-- Something changed that no entry of a queue announces: who rests beside it is told to look at once, on the channel of
-- the doorbell.
local function call_to_look(due)
  redis.pcall('PUBLISH', due, 'look')
end
