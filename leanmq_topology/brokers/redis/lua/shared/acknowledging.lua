-- Ending deliveries well. What it takes is read first, so that a key which holds something else fails before anything
-- is written, as does a queue that lies elsewhere (`astray`: the error reply). KEYS and ARGV are those of `ack`.
local FIRST = 3

-- Among the answers: how many the history holds, nil where none is kept.
local function read_keeping(KEYS)
  local kept = redis.call('HMGET', KEYS[2], 'keep_acked_ms', 'keep_acked_count', 'tag')
  local keep_ms, keep_count = tonumber(kept[1] or ''), tonumber(kept[2] or '')
  local stream, tag = KEYS[1], kept[3] or ''
  if string.find(stream, tag, 2, true) ~= 2 or string.byte(stream, #tag + 2) ~= 125 then
-- include placement
    local astray = check_place(tag, KEYS[2], stream)
    if astray then
      return {astray = astray}
    end
  end
  local length = (keep_ms or keep_count) and redis.call('XLEN', KEYS[3])
  return {length = length, ms = keep_ms, count = keep_count, crashed = redis.call('EXISTS', KEYS[4]) == 1}
end

-- Returns how many were still there.
local function acknowledge(KEYS, ARGV, keeping)
  local stream, meta, history, crashes, purges = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
  local done = redis.call('XACK', stream, ARGV[1], unpack(ARGV, FIRST))
  local length = keeping.length
  if length or keeping.crashed then
-- include entries
-- include crashes
    local seen = {}
    for at = FIRST, #ARGV do
      local entry = redis.call('XRANGE', stream, ARGV[at], ARGV[at])[1]
      if entry and not seen[entry[1]] then -- an id given twice is kept once
        seen[entry[1]] = true
        if keeping.crashed then
          forget_crashes(crashes, entry[1], entry[2])
        end
        if length then
          write_copy(history, entry[2])
          length = length + 1
        end
      end
    end
  end
  local removed = redis.call('XDEL', stream, unpack(ARGV, FIRST))
  if length and (keeping.ms or length > keeping.count) then
-- include clock
-- include history
    trim_history(history, keeping.ms, keeping.count, keeping.ms and read_clock())
  end
-- include acknowledged
  note_acknowledged(meta, purges, done, removed, ARGV[2], FIRST)
  return removed
end
