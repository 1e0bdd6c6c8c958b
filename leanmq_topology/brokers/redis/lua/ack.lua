-- Acknowledge deliveries: they are done and leave the queue, for its history where one is kept. Safe to repeat.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:a:<queue>   4 {ns}:c:<queue>   5 {ns}:t:<queue>
-- ARGV   1 group   2 how many of them are late: their lease had lapsed   3… entry ids, at most 1,000
-- Returns how many were still there
--
-- No ownership check: the work is done, and refusing a late acknowledgement would only run it again. XACK comes
-- first, which lets the script through on a server over its memory limit; XDEL's count is the truth. Entries are
-- read only where they are needed: for the history, or to forget that a message once crashed. What is done but not
-- there may lie in the trash of a purge: it is noted, so that undoing the purge does not bring it back.

-- include clock
-- include entries
-- include history
-- include crashes
-- include acknowledged

local FIRST = 3
local stream, meta, history, crashes, purges = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local kept = redis.call('HMGET', meta, 'keep_acked_ms', 'keep_acked_count')
local keep_ms, keep_count = tonumber(kept[1] or ''), tonumber(kept[2] or '')
local keeps = (keep_ms or keep_count) and redis.call('XLEN', history) >= 0 -- fails now if it is no stream
local crashed = redis.call('EXISTS', crashes) == 1

local removed = 0
local done = redis.call('XACK', stream, ARGV[1], unpack(ARGV, FIRST))
for at = FIRST, (keeps or crashed) and #ARGV or 0 do
  local fields = read_entry(stream, ARGV[at])
  if fields and crashed then
    forget_crashes(crashes, ARGV[at], fields)
  end
  if fields and keeps then
    write_copy(history, fields, {})
    removed = removed + redis.call('XDEL', stream, ARGV[at]) -- at once: an id given twice is kept once
  end
end
removed = removed + redis.call('XDEL', stream, unpack(ARGV, FIRST))
if keeps then
  trim_history(history, keep_ms, keep_count, read_clock())
end
note_acknowledged(meta, purges, done, removed, ARGV[2], FIRST)
return removed
