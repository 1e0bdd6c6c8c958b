-- Duplicates: what was sent before is remembered in markers. For `send`, after it has read its forms; needs its
-- `count`, `confirmed`, `markers_before`, `birth`.
--
-- The value of a marker is the digest of the data, what was purged of its queue by then, `.`, when that queue or route
-- was born, `:`, and the id of what was sent first. A route is born with the first of its markers, as nothing else needs
-- to know, and what is removed takes its birth with it. In ARGV a send with markers goes on with the digest of
-- its data, then place, copy and life of each.
local DATA_DIGEST = 8
local remembered, new_markers, hits, births = {}, {}, {}, {}

-- A marker is about what goes into one queue, or to an address.
local function find_scope(form, copy)
  return copy > 0 and form.copies[copy].queue or form.address
end

local function read_past(scope)
  if not scope.purged then
    local found = redis.call('HMGET', scope.meta, 'purged', 'born')
    scope.purged, scope.born = tonumber(found[1] or '0'), found[2] or ''
  end
  return scope.purged .. '.' .. scope.born
end

-- {digest of the data, id} of what was sent first. What was purged since does not count, nor what was sent to a queue
-- or route that was removed since.
local function recall(place, scope)
  if remembered[place] == nil then
    local value = redis.call('GET', KEYS[markers_before + place]) or ''
    local purged, born, id = string.match(string.sub(value, DATA_DIGEST + 1), '^(%d+)%.(%d*):(.*)$')
    read_past(scope)
    local counts = purged and tonumber(purged) >= scope.purged and born == scope.born
    remembered[place] = counts and {string.sub(value, 1, DATA_DIGEST), id}
  end
  return remembered[place]
end

-- Returns the answer for a send that is known as a whole, the copies that are known, and what was found.
local function find_known(form, body)
  local digest, known, found, first, differs = ARGV[body + 3], {}, {}, nil, false
  for word = body + 4, body + 3 * form.markers + 1, 3 do
    local place, copy = tonumber(ARGV[word]), tonumber(ARGV[word + 1])
    local scope = find_scope(form, copy)
    local first_sent = recall(place, scope)
    if first_sent then
      local other = first_sent[1] ~= digest
      found[#found + 1] = {place = place, life = ARGV[word + 2], differs = other, counts = scope.counts}
      first, differs = first or first_sent[2], differs or other
      known[copy] = true
    end
  end
  local whole = first and (known[0] or #found == #form.copies)
  return whole and {'duplicate', first, differs and '1' or '0'}, known, found, differs
end

local function note(found)
  for _, hit in ipairs(found) do
    hits[#hits + 1] = hit
  end
end

local function remember(form, body)
  local id, digest = ARGV[body + 1], ARGV[body + 3]
  for word = body + 4, body + 3 * form.markers + 1, 3 do
    local place, scope = tonumber(ARGV[word]), find_scope(form, tonumber(ARGV[word + 1]))
    if not recall(place, scope) then
      if scope.born == '' then
        scope.born, births[scope.meta] = read_birth(), scope
      end
      remembered[place] = {digest, id}
      new_markers[#new_markers + 1] = {place, digest .. read_past(scope) .. ':' .. id, ARGV[word + 2]}
    end
  end
end

local function write_markers()
  for meta, scope in pairs(births) do
    redis.call('HSET', meta, 'born', scope.born)
  end
  for _, new in ipairs(new_markers) do
    redis.call('SET', KEYS[markers_before + new[1]], new[2], 'PX', new[3])
  end
  for _, hit in ipairs(hits) do
    count(hit.counts, 'duplicates')
    count(hit.counts, 'conflicts', hit.differs and 1 or 0)
    if confirmed then -- WAIT confirms only what was written
      redis.call('PEXPIRE', KEYS[markers_before + hit.place], hit.life)
    end
  end
end
