-- Hand back, for a consumer that is gone, all it held and never started: at once claimable by anyone, and this
-- hand-out does not count. What it had started is named in the answer, and stays held in its name or comes under
-- suspicion.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:due
-- ARGV   1 group   2 consumer   3 nobody   4 suspects   5 how many leases to look at   6 '1': suspect what had started
--        7… entry ids that it had started
-- Returns {how many were handed back, {{entry id, delivery count, fields}, …} of those it had started, more}
--         more is 1 if it may hold others than those that were looked at: call again
--
-- Called by whoever saw the process die and knows what it was running; nobody else can tell the two apart. The
-- lease comes from the queue's own record, as in `release`. Entries that somebody deleted are left to the claimers,
-- which count them as vanished.

-- include placement
-- include entries
-- include look_call

local stream, meta = KEYS[1], KEYS[2]
local group, consumer, nobody, suspects, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local started = {}
for at = 7, #ARGV do
  started[ARGV[at]] = true
end
local found = redis.call('HMGET', meta, 'visibility_ms', 'tag')
local astray = check_place(found[2], meta, stream)
if astray then
  return astray
end
local lease = found[1]
local held = redis.call('XPENDING', stream, group, '-', '+', most, consumer)
local freed, running = 0, {}
for _, one in ipairs(lease and held or {}) do
  local id, count = one[1], one[4]
  local fields = read_entry(stream, id)
  if started[id] then
    running[#running + 1] = {id, count, fields or false}
    if ARGV[6] == '1' and fields then
      redis.call('XCLAIM', stream, group, suspects, 0, id, 'IDLE', lease, 'RETRYCOUNT', count, 'JUSTID')
    end
  elseif fields then
    local holder = count > 1 and suspects or nobody
    redis.call('XCLAIM', stream, group, holder, 0, id, 'IDLE', lease, 'RETRYCOUNT', count - 1, 'JUSTID')
    freed = freed + 1
  end
end
local moved = freed > 0 or (ARGV[6] == '1' and #running > 0)
if moved then
  call_to_look(KEYS[3])
end
return {freed, running, moved and #held == most and 1 or 0}
