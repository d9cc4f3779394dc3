-- the replica if it writes event logs, how many sessions are held, those, and those that are held no longer: keeps them, ends
-- what is due, and counts
redis.call('ZREMRANGEBYSCORE', P .. 'writers', '-inf', NOW)
if ARGV[1] ~= '' then write_on(ARGV[1]) end

was_away()
redis.call('HSET', COUNTS, 'seen', NOW)

-- Even if its own time is short.
for i = 3, #ARGV - 2 do
  local sid = ARGV[i]
  local timeout = redis.call('ZSCORE', LIVE, sid) and redis.call('HGET', record(sid), 'timeout')
  if timeout then
    timeout = tonumber(timeout)
    touch(sid, timeout)
    local held = i - 2 <= tonumber(ARGV[2])
    redis.call('ZADD', LIVE, NOW + (held and math.max(timeout, LEASE) or timeout), sid)
  end
end
-- Of a full page more may follow, and who is named there must not be ended first.
local ended = #ARGV - 4 < 256 and sweep(256) or {}
forget()
local next = redis.call('ZRANGE', LIVE, 0, 0, 'WITHSCORES')
return { NOW, tally(), redis.call('ZCARD', ENDED), tonumber(next[2] or 0), ended }
