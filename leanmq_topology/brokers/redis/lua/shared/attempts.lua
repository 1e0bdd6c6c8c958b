-- How often a message failed, written in its fields. One that never did has no field for it; what is none of our messages
-- gets none. Needs `entries`.
local function set_attempts(fields, attempts)
  for at = 1, #fields, 2 do
    if fields[at] == 'attempt' then
      fields[at + 1] = attempts
      return
    end
  end
  for _, name in ipairs({'id', 'type', 'data', 'headers'}) do
    if not find_value(fields, name) then
      return
    end
  end
  fields[#fields + 1], fields[#fields + 2] = 'attempt', attempts
end
