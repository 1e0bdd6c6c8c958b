-- Hand back, for a consumer that is gone, all it held and never started: at once claimable by anyone, and this
-- hand-out does not count. What it had started stays held in its name, and is named in the answer.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>
-- ARGV   1 group   2 consumer   3 nobody   4 how many leases to look at   5… entry ids that it had started
-- Returns {how many were handed back, {{entry id, delivery count, fields}, …} of those it had started, more}
--         more is 1 if it may hold others than those that were looked at: call again
--
-- Called by whoever saw the process die and knows what it was running; nobody else can tell the two apart. The
-- lease comes from the queue's own record, as in `release`. Entries that somebody deleted are left to the claimers,
-- which count them as vanished.

-- include entries

local stream, meta = KEYS[1], KEYS[2]
local group, consumer, nobody, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local started = {}
for at = 5, #ARGV do
  started[ARGV[at]] = true
end
local lease = redis.call('HGET', meta, 'visibility_ms')
local held = redis.call('XPENDING', stream, group, '-', '+', most, consumer)
local freed, running = 0, {}
for _, one in ipairs(lease and held or {}) do
  local id, count = one[1], one[4]
  local fields = read_entry(stream, id)
  if started[id] then
    running[#running + 1] = {id, count, fields or false}
  elseif fields then
    redis.call('XCLAIM', stream, group, nobody, 0, id, 'IDLE', lease, 'RETRYCOUNT', count - 1, 'JUSTID')
    freed = freed + 1
  end
end
return {freed, running, freed > 0 and #held == most and 1 or 0}
