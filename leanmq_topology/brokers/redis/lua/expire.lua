-- Take out what is past its time, wherever it lies in the queue: a bounded stretch of what was never handed out.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:d:<queue>   4 {ns}:z:<queue>   5 {ns}:b:<queue>   6 {ns}:due
--        7 {ns}:c:<queue>
-- ARGV   1 group   2 queue   3 cursor or ''   4 how many entries to look at   5 error (JSON) of a dead letter
-- Returns {next cursor or '' at the end, how many went}
--
-- `sweep` looks only at the head, which is enough while workers read. This is for whoever asks how many have expired:
-- each is counted once, by the call that took it out. A message in flight is not interrupted.

-- include placed
-- include clock
-- include entries
-- include groups
-- include replies
-- include requests
-- include delayed
-- include dead_letters
-- include crashes

local stream, group = KEYS[1], ARGV[1]
local keys = {meta = KEYS[2], dead = KEYS[3], index = KEYS[4], bodies = KEYS[5], due = KEYS[6]}
local most = tonumber(ARGV[4])

local handed_out = redis.call('TYPE', stream).ok == 'stream' and find_last_delivered(stream, group)
if not handed_out then
  return {'', 0}
end
local after = ARGV[3] ~= '' and is_after(ARGV[3], handed_out) and ARGV[3] or handed_out

local now = read_clock()
local discards = redis.call('HGET', keys.meta, 'on_expire') == 'discard'
local letters, discarded = open_dead_letters(keys, ARGV[2], now), 0
local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', most)
redis.call('XACK', stream, group, '0-0') -- exempts the moves from the memory limit
for _, entry in ipairs(entries) do
  local expires = tonumber(find_value(entry[2], 'expires') or '')
  if expires and now >= expires then
    if discards or is_request(entry[2]) then
      tell_requester(keys.meta, entry[2], ARGV[5], 'expired')
      discarded = discarded + 1
    else
      add_dead_letter(letters, entry[2], '', 'expired', ARGV[5])
    end
    forget_crashes(KEYS[7], entry[1], entry[2])
    redis.call('XDEL', stream, entry[1])
  end
end
count_dead_letters(letters)
if discarded > 0 then
  redis.call('HINCRBY', keys.meta, 'expired', discarded)
  redis.call('HINCRBY', keys.meta, 'discarded', discarded)
end
return {#entries == most and entries[most][1] or '', letters.added + discarded}
