-- Take in what was handed to this consumer in an answer that never reached it, and renew those leases.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2 consumer   3 cursor, '0-0' to start   4 how many of its pending entries to look at
--        5… entry ids that the consumer knows it holds
-- Returns {cursor to go on from, '0-0' at the end; {{entry id, delivery count, fields}, …}}
--
-- About 4 MiB a call, one entry in any case: an answer that was cut off for its size would be cut off again. The
-- cursor is kept by the caller: starting from the front each time never reaches what lies behind many that it knows.
--
-- XPENDING, not a history read: XREADGROUP with an id would add to the delivery count of messages that nobody ran.

-- include placed

local MOST_BYTES = 4 * 1024 * 1024

local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local from, most = ARGV[3] == '0-0' and '-' or '(' .. ARGV[3], tonumber(ARGV[4])

local known = {}
for at = 5, #ARGV do
  known[ARGV[at]] = true
end
local found, size = {}, 0
local pending = redis.call('XPENDING', stream, group, from, '+', most, consumer)
for _, held in ipairs(pending) do
  local id, count = held[1], held[4]
  local entry = not known[id] and redis.call('XRANGE', stream, id, id)[1]
  if entry then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
    found[#found + 1] = {id, count, entry[2]}
    for at = 1, #entry[2] do
      size = size + #entry[2][at]
    end
    if size >= MOST_BYTES then
      return {id, found}
    end
  end
end
return {#pending == most and pending[most][1] or '0-0', found}
