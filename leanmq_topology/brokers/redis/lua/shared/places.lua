-- Are the queues where KEYS say? The record of each is among them, in any order. `astray` is the error reply, nil if all
-- are; a queue's keys are made together, so one of them tells of all.
-- include placement
local records, astray = {}, nil
for _, key in ipairs(KEYS) do
  local queue = string.match(key, '^{[^{}]*}:m:([^:]*)$')
  if queue then
    records[queue] = key
  end
end
for _, key in ipairs(KEYS) do
  local queue = string.match(key, '^{[^{}]*}:[abcdqtz]:([^:]*)') or ''
  local record = records[queue]
  local tag = record and redis.pcall('HGET', record, 'tag')
  if record and type(tag) ~= 'table' then
    records[queue] = nil
    if not astray or not is_elsewhere(astray) then
      astray = check_place(tag, record, key) or astray
    end
  end
end
