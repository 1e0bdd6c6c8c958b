-- Store a flush: sends that travel together, each of them all or none over its copies.
--
-- KEYS   1 {ns}:topology   2 {ns}:p:<producer>   3 {ns}:due
--        then {ns}:m:<address> of each address, then q m z b d c of each queue, then {ns}:u:… of each marker
-- ARGV   1 sequence   2 life of the producer's marker in ms   3 '1': one failing send withholds all
--        4 '1': the sender will wait for disk or replicas, so every path must write   5 group
--        6 number of addresses   7 of queues   8 of forms (what sends have in common)   9 '1': tell entry ids
--        then name, digest of each address ('': a pair that no topology declares); then the name of each queue; then
--        of each form its address, number of copies, queue…, type, headers, ttl in ms or '', delay in ms or '', number
--        of markers
--        then the sends to the end: form, id, data and, if the form has markers, digest of the data (8 bytes) and
--        for each marker: marker, the copy it is about (0: the whole send), its life in ms
--        (addresses, queues, forms, copies and markers by their place, from 1)
-- Returns for each send how many copies it made | {'entry', id}: its only copy, not delayed, where ids are asked for
--        | {'duplicate', id of the first, '1' if its data differs}
--        | {'partial', copies}: a queue had it already, with other data | {'stale', digest or '', its address,
--        a queue of it that is on its way out or nil}
--        | {'full', queue, max_length}; or one number, how many copies each made, which `send_plain` stored before
--
-- Everything is checked before anything is written. The first write is an XADD (or the like) that the server
-- refuses when it is over its memory limit, so then nothing at all is written; markers come after what they stand
-- for. The producer's marker makes a resend after a lost answer harmless: it holds the last sequence of a producer
-- with its result. `send_plain` and `send_lone` do the same for most flushes.
--
-- Functions are made anew each time a script runs, so what only limits or markers need is made when there are any.
--
-- include clock
-- include delayed
-- include flushes

local KEYS_PER_QUEUE = 6

local sequence, marker_life = ARGV[1], ARGV[2]
local together, confirmed, group = ARGV[3] == '1', ARGV[4] == '1', ARGV[5]
local tells_entries = ARGV[9] == '1'

local marker = redis.call('GET', KEYS[2])
if marker and read_sequence(marker) >= tonumber(sequence) then
  if confirmed then
    redis.call('PEXPIRE', KEYS[2], marker_life)
  end
  return read_answer(marker)
end

-- include doorbell

local now = read_clock()

-- What each address, queue and form allows, read once a flush.

local at = 10
local function next_word()
  at = at + 1
  return ARGV[at - 1]
end

local function next_number()
  return tonumber(next_word())
end

local function read_address(place)
  local name, digest = next_word(), next_word()
  local applied = redis.call('HGET', KEYS[1], '@' .. name)
  local refusal = (applied or '') ~= digest and {'stale', applied or '', name} or nil
  return {name = name, meta = KEYS[3 + place], refusal = refusal, counts = {}}
end

local function read_queue(first)
  local queue = {
    name = next_word(), stream = KEYS[first], meta = KEYS[first + 1], index = KEYS[first + 2],
    bodies = KEYS[first + 3], dead = KEYS[first + 4], crashes = KEYS[first + 5], due = KEYS[3],
    counts = {},
  }
  local found = redis.call('HMGET', queue.meta, 'state', 'max_length', 'ttl_ms', 'delay_ms', 'overflow', 'on_expire',
    'tag')
  local tag = found[7] or ''
  if string.find(queue.stream, tag, 2, true) ~= 2 or string.byte(queue.stream, #tag + 2) ~= 125 then
-- include placement
    queue.astray = check_place(tag, queue.meta, queue.stream)
  end
  queue.leaves = found[1] == 'draining' or found[1] == 'retired'
  queue.gone = queue.leaves or not found[4] or redis.call('TYPE', queue.stream).ok ~= 'stream'
  queue.limit = tonumber(found[2] or '')
  queue.ttl, queue.delay = tonumber(found[3] or ''), tonumber(found[4] or '') or 0
  queue.overflow, queue.discards = found[5], found[6] == 'discard'
  if queue.limit and not queue.gone then
    queue.room = queue.limit - redis.call('XLEN', queue.stream) - redis.call('ZCARD', queue.index)
    queue.swept, queue.dropped, queue.placed, queue.first_placed, queue.dying = {}, {}, {}, 1, 0
  end
  return queue
end

local addresses, queues, forms = {}, {}, {}
for place = 1, tonumber(ARGV[6]) do
  addresses[place] = read_address(place)
end
for place = 1, tonumber(ARGV[7]) do
  queues[place] = read_queue(4 + #addresses + KEYS_PER_QUEUE * (place - 1))
  if queues[place].astray then
    return queues[place].astray
  end
end
local markers_before = 3 + #addresses + KEYS_PER_QUEUE * #queues

-- A key that holds something else must fail here, not between two writes.
local function check_delayed(queue)
  if not queue.checked then
    redis.call('ZCARD', queue.index)
    redis.call('HLEN', queue.bodies)
    redis.call('ZCARD', queue.due)
    queue.checked = true
  end
end

local function plan_copy(queue, ttl, delay)
  local life = queue.ttl
  if ttl and (not life or ttl < life) then
    life = ttl
  end
  local wait = delay or queue.delay
  if wait > 0 then
    check_delayed(queue)
  end
  local expires = life and string.format('%.0f', now + life)
  return {queue = queue, wait = wait, expires = expires or '', words = expires and {'expires', expires} or {}}
end

local function read_form()
  local form, targets = {address = addresses[next_number()], copies = {}}, {}
  for copy = 1, next_number() do
    targets[copy] = queues[next_number()]
  end
  form.type, form.headers = next_word(), next_word()
  local ttl, delay = next_number(), next_number()
  form.markers, form.refusal = next_number(), form.address.refusal
  for copy, queue in ipairs(targets) do
    form.copies[copy] = plan_copy(queue, ttl, delay)
    form.limited = form.limited or queue.limit
    -- a queue that is gone: the address is not applied, or went with a queue that drains
    if queue.gone and (not form.refusal or form.refusal[2] == '' and queue.leaves) then
      form.refusal = {'stale', '', form.address.name, queue.leaves and queue.name}
    end
  end
  form.width = 3 + (form.markers > 0 and 1 + 3 * form.markers or 0)
  return form
end

local is_limited, is_marked = false, false
for place = 1, tonumber(ARGV[8]) do
  local form = read_form()
  forms[place] = form
  is_limited, is_marked = is_limited or form.limited, is_marked or form.markers > 0
end
local first_send = at

-- What becomes of each send. A copy of a send may have a fate of its own: 'known' (sent before), 'dead' (over the
-- limit, dead-lettered), 'dropped' (made room for a later one of the same flush).

local fates, wrote = {}, false

local function count(counts, name, more)
  counts[name] = (counts[name] or 0) + (more or 1)
end

local function open_markers()
-- include birth
-- include markers
  return {find_known = find_known, note = note, remember = remember, write = write_markers}
end

local function open_limits()
-- include entries
-- include replies
-- include requests
-- include dead_letters
-- include crashes
-- include groups
-- include room
-- include overflow
  return {fit = fit, bury = bury, drop = drop, clear = clear}
end

local markers = is_marked and open_markers()
local limits = is_limited and open_limits()

local NOTHING = {}

local function judge_marked(form, body, send)
  local answer, known, found, differs = markers.find_known(form, body)
  if not answer and form.limited then
    local full = limits.fit(form, known, send)
    if full then
      return full
    end
  elseif not answer and found[1] then
    fates[send] = {}
    for copy in pairs(known) do
      fates[send][copy] = 'known'
    end
  end
  markers.note(found)
  if answer then
    return answer
  end
  markers.remember(form, body)
  local copies = #form.copies - #found
  return differs and {'partial', copies} or copies
end

local function judge(form, body, send)
  if form.refusal then
    return form.refusal
  elseif form.markers > 0 then
    return judge_marked(form, body, send)
  end
  return form.limited and limits.fit(form, NOTHING, send) or #form.copies
end

local function is_refused(result)
  return type(result) == 'table' and (result[1] == 'stale' or result[1] == 'full')
end

local results, failure = {}, nil
while at <= #ARGV do
  local form = forms[tonumber(ARGV[at])]
  local result = judge(form, at, #results + 1)
  results[#results + 1] = result
  failure = failure or is_refused(result) and result
  at = at + form.width
end
local withheld = failure and together
if withheld then
  for send, result in ipairs(results) do
    results[send] = is_refused(result) and result or failure
  end
end

-- Writing: what is new, then what makes room for it, then markers and counters.

local due = {}

local function add(target, form, id, data)
  local queue = target.queue
  if target.wait == 0 then
    wrote = true
    return redis.call('XADD', queue.stream, 'NOMKSTREAM', '*', 'id', id, 'type', form.type, 'data', data, 'headers',
      form.headers, unpack(target.words))
  else
    local when = now + target.wait
    put_delayed(queue.index, queue.bodies, id, {id, form.type, data, form.headers, '0', target.expires}, when)
    due[queue] = math.min(due[queue] or when, when)
  end
  wrote = true
end

local function write(form, body, send)
  local fate = fates[send] or NOTHING
  for copy, target in ipairs(form.copies) do
    if fate[copy] == 'dead' then
      limits.bury(target, form, ARGV[body + 1], ARGV[body + 2])
    elseif fate[copy] == 'dropped' then
      limits.drop(target, form, ARGV[body + 1])
    elseif fate[copy] ~= 'known' then
      local entry = add(target, form, ARGV[body + 1], ARGV[body + 2])
      if tells_entries and entry and results[send] == 1 and not form.copies[2] then
        results[send] = {'entry', entry}
      end
    end
    if fate[copy] ~= 'known' then
      count(target.queue.counts, 'sent')
    end
  end
  if #form.copies == 0 then
    count(form.address.counts, 'unrouted')
  end
end

local function write_counts(place)
  for name, more in pairs(place.counts) do
    redis.call('HINCRBY', place.meta, name, more)
    wrote = true
  end
end

if not withheld then
  at = first_send
  for send, result in ipairs(results) do
    local form = forms[tonumber(ARGV[at])]
    if type(result) == 'number' or result[1] == 'partial' then
      write(form, at, send)
    end
    at = at + form.width
  end
end
for _, queue in ipairs(queues) do
  if queue.room then
    limits.clear(queue, withheld)
  end
end
if markers and not withheld then
  markers.write()
end
for _, queue in ipairs(queues) do
  write_counts(queue)
end
for queue, when in pairs(due) do
  note_due(KEYS[3], queue.name, when, now)
end
for _, address in ipairs(addresses) do
  write_counts(address)
end
if wrote and not withheld then
  remember_flush(KEYS[2], sequence, results, marker_life)
end
return results
