-- Ends the script if a queue lies elsewhere than KEYS say. One of which nobody knows where must not keep the others.
-- include places
if astray and is_elsewhere(astray) then
  return astray
end
