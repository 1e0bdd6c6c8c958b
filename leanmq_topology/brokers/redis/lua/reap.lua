-- Remove the names of workers that are gone from these queues.
--
-- KEYS   {ns}:q:<queue> of each queue, then {ns}:m:<queue> of each
-- ARGV   1 group   2 how long a name must not have been heard of, in ms
-- Returns how many were removed, at most 1,000
--
-- Never one that holds messages: deleting it would make them unreachable for every claimer. A worker that still lives
-- gets its name back with its next read.

-- include reachable

local MOST_REAPED = 1000

local group, longest = ARGV[1], tonumber(ARGV[2])

local reaped = 0
for at = 1, #KEYS / 2 do
  local stream = KEYS[at]
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  for _, facts in ipairs(consumers.err and {} or consumers) do
    local found = {}
    for at = 1, #facts, 2 do
      found[facts[at]] = facts[at + 1]
    end
    if reaped < MOST_REAPED and found.pending == 0 and found.idle > longest then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, found.name)
      reaped = reaped + 1
    end
  end
end
return reaped
