-- A delivery is still ours while the same entry is held by us and was handed out as often as we know.
local function is_ours(stream, group, consumer, id, count)
  local held = redis.call('XPENDING', stream, group, id, id, 1)[1]
  return held and held[2] == consumer and held[4] == count
end
