-- What a queue's record says to who only wants to store something in it at once: `short`, for as long as the queue takes
-- all there is, without limit or delay. It is where the stream lies, the queue's `counter` and its ttl in ms or nothing.
-- Each step that changes a queue's limits or state writes it anew, or takes it away: then the fields themselves are
-- read, so there need not be one.
--
-- `counter` is a number that no other queue of the namespace has had since {ns}:sent is there. What several queues get
-- together is counted once, in that key, by their numbers with a space before each; the last number given is there by the
-- empty name. Whoever deletes the key loses these counts, and numbers are given anew: `sent` may be wrong, nothing else.
local function write_short(record, stream, sent)
  local found = redis.call('HMGET', record, 'state', 'max_length', 'delay_ms', 'ttl_ms', 'counter')
  local refuses = found[1] == 'draining' or found[1] == 'retired'
  if refuses or found[2] ~= '' or found[3] ~= '0' or not found[4] then
    redis.call('HDEL', record, 'short')
    return
  end
  local counter = found[5] or string.format('%.0f', redis.call('HINCRBY', sent, '', 1))
  redis.call('HSET', record, 'counter', counter, 'short', stream .. ' ' .. counter .. ' ' .. found[4])
end
