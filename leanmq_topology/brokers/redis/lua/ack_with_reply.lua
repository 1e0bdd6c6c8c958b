-- Acknowledge a request and reply to it, in one step: what `ack_with_outputs` does, for a handler that sends nothing
-- else. Nearly all that reply are such, and the other script takes the server a third longer.
--
-- KEYS   1 {ns}:q:<queue>   2 {ns}:m:<queue>   3 {ns}:a:<queue>   4 {ns}:c:<queue>   5 {ns}:t:<queue>
--        6 {ns}:r:<client>   7 {ns}:p:<producer>
-- ARGV   1 group   2 consumer   3 entry id   4 delivery count   5 id of the request   6 type   7 data
--        8 error of the reply   9 value of the producer's marker   10 its life in ms
-- Returns 1: done | 0: somebody else's by now, and nothing was done
--
-- The marker tells a repeated call that the first one did it. The reply is the first write, so an inbox that holds
-- something else fails before anything is written. The no-op XACK, which exempts a step from the memory limit, comes
-- only where the reply was refused. Functions are made anew each time a script runs, so most of them are made only
-- where something out of the ordinary needs them.
--
-- include ownership
-- include replies

local call, stream, meta, producer = redis.call, KEYS[1], KEYS[2], KEYS[7]
local group, id = ARGV[1], ARGV[3]

local kept = call('HMGET', meta, 'keep_acked_ms', 'keep_acked_count', 'tag')
local tag, keeping, finish = kept[3] or '', nil, nil
if (kept[1] or '') ~= '' or (kept[2] or '') ~= '' or call('EXISTS', KEYS[4]) == 1
  or string.find(stream, tag, 2, true) ~= 2 or string.byte(stream, #tag + 2) ~= 125 then
-- include acknowledging
  keeping, finish = read_keeping(KEYS), acknowledge
  if keeping.astray then
    return keeping.astray
  end
end
if not is_ours(stream, group, ARGV[2], id, tonumber(ARGV[4])) then
-- include flushes
  local marker = call('GET', producer)
  return marker and read_sequence(marker) >= read_sequence(ARGV[9]) and 1 or 0
end

local added = add_reply(KEYS[6], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
if type(added) == 'table' then
  call('XACK', stream, group, '0-0')
  added = add_reply(KEYS[6], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
end
if type(added) == 'table' then
  return added
elseif not added then
  count_late_reply(meta)
end
call('SET', producer, ARGV[9], 'PX', ARGV[10])

if finish then
  finish(KEYS, {group, '0', id}, keeping)
elseif call('XACK', stream, group, id) == 1 and call('XDEL', stream, id) == 1 then
  call('HINCRBY', meta, 'acked', 1)
else -- it was pending, so somebody deleted the entry under its consumer
  local function note_vanished(ARGV)
-- include acknowledged
    note_acknowledged(meta, KEYS[5], 1, 0, '0', 1)
  end
  note_vanished({id})
end
return 1
