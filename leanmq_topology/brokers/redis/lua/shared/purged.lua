-- Of entries that are done but not in their queue (ARGV from `first` on), note those that may lie in the trash of a
-- purge, so that undoing the purge does not bring them back.
local function note_done(purges, first)
  local upto = tonumber(redis.call('HGET', purges, 'upto') or '')
  for at = first, upto and #ARGV or 0 do
    if tonumber(string.match(ARGV[at], '^%d+')) <= upto then
      redis.call('HSET', purges, ARGV[at], '')
    end
  end
end
