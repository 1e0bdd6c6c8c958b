-- Where a queue lies only its own record says: by the hash tag that its other keys are made with. Whoever made them with
-- another one is told by an error reply, before anything is written, and calls again with those of the right place.
--
-- In the heads of scripts `{ns}` is that tag for all keys of a queue but its record `{ns}:m:…`.
--
-- `tag` is what `record` has in that field, `key` any other key of that queue as the caller made it. Returns the error
-- reply, or nil: the queue lies there, or has no record that would say where.
--
-- What runs for each message looks first whether the tag stands in the key, from its second byte on and with a `}` (125)
-- behind it, and makes these functions only where it does not.
local function check_place(tag, record, key)
  if tag and string.sub(key, 1, #tag + 2) == '{' .. tag .. '}' then
    return nil
  elseif tag and string.find(tag, '^[^{}]+$') then
    return {err = 'MISPLACED {' .. tag .. '}' .. record}
  elseif tag and tag ~= '' or redis.call('HEXISTS', record, 'visibility_ms') == 1 then
    return {err = 'UNPLACED ' .. record}
  end
  return nil
end

-- Whether the caller only has to call again; else nobody knows where that queue lies.
local function is_elsewhere(astray)
  return string.sub(astray.err, 1, 1) == 'M'
end
