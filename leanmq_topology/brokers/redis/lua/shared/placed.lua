-- Ends the script, before anything is written, if a queue lies elsewhere than KEYS say or nobody knows where.
-- include places
if astray then
  return astray
end
