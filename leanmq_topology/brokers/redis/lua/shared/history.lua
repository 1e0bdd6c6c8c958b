-- The history of acknowledged messages, kept for a time or up to a count. Needs `entries`.
local MOST_TRIMMED = 1000 -- a bound that became much smaller is reached over several calls

local function trim_history(history, keep_ms, keep_count, now)
  if keep_count then
    local length = redis.call('XLEN', history)
    if length > keep_count then
      redis.call('XTRIM', history, 'MAXLEN', string.format('%.0f', math.max(keep_count, length - MOST_TRIMMED)))
    end
  elseif keep_ms then
    redis.call('XTRIM', history, 'MINID', '~', string.format('%.0f', now - keep_ms))
  end
end
