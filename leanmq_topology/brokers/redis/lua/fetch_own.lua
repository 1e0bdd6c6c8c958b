-- Take in what was handed to this consumer in an answer that never reached it, and renew those leases.
--
-- KEYS   1 {ns}:q:<queue>
-- ARGV   1 group   2 consumer   3 how many to look at in one go   4… entry ids that the consumer knows it holds
-- Returns {{entry id, delivery count, fields}, …}; while it returns any there may be more
--
-- About 4 MiB a call, one entry in any case: an answer that was cut off for its size would be cut off again.
--
-- XPENDING, not a history read: XREADGROUP with an id would add to the delivery count of messages that nobody ran.

local MOST_BYTES = 4 * 1024 * 1024

local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local known = {}
for at = 4, #ARGV do
  known[ARGV[at]] = true
end
local found, size, start = {}, 0, '-'
repeat
  local page = redis.call('XPENDING', stream, group, start, '+', ARGV[3], consumer)
  for _, held in ipairs(page) do
    local id, count = held[1], held[4]
    start = '(' .. id
    local entry = not known[id] and size < MOST_BYTES and redis.call('XRANGE', stream, id, id)[1]
    if entry then
      redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
      found[#found + 1] = {id, count, entry[2]}
      for at = 1, #entry[2] do
        size = size + #entry[2][at]
      end
    end
  end
until #page == 0 or #found > 0
return found
