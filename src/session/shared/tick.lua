-- the replica if it writes event logs, whether all sessions are named, how many of them are held, those, and those that are
-- held no longer: keeps them, ends what is due, and counts
redis.call('ZREMRANGEBYSCORE', P .. 'writers', '-inf', NOW)
if ARGV[1] ~= '' then write_on(ARGV[1]) end

make_up()
redis.call('HSET', COUNTS, 'seen', NOW)

-- Even if its own time is short.
for i = 4, #ARGV do
  local sid = ARGV[i]
  local timeout = redis.call('ZSCORE', LIVE, sid) and redis.call('HGET', record(sid), 'timeout')
  if timeout then
    timeout = tonumber(timeout)
    touch(sid, timeout)
    local held = i - 3 <= tonumber(ARGV[3])
    redis.call('ZADD', LIVE, idle_clock() + (held and math.max(timeout, LEASE) or timeout), sid)
  end
end
-- Who is named next must not be ended first.
local ended = ARGV[2] == '1' and sweep(256) or {}
forget()
local next = redis.call('ZRANGE', LIVE, 0, 0, 'WITHSCORES')
return { NOW, tally(), redis.call('ZCARD', ENDED), next[2] and tonumber(next[2]) + NOW - idle_clock() or 0, ended }
