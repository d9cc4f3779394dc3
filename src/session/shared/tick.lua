-- the replica if it writes event logs, and the sessions that are held: keeps them, ends those that are due, and counts
redis.call('ZREMRANGEBYSCORE', P .. 'writers', '-inf', NOW)
if ARGV[1] ~= '' then write_on(ARGV[1]) end
for i = 2, #ARGV - 2 do
  local sid = ARGV[i]
  local timeout = redis.call('ZSCORE', LIVE, sid) and redis.call('HGET', record(sid), 'timeout')
  if timeout then touch(sid, tonumber(timeout)) end
end
local ended = sweep(256)
forget()
local c = redis.call('HMGET', COUNTS, 'created', 'refused', 'bytes', 'expired', 'client', 'admin', 'shutdown')
local next = redis.call('ZRANGE', LIVE, 0, 0, 'WITHSCORES')
for i = 1, 7 do c[i] = tonumber(c[i] or 0) end
return { NOW, redis.call('ZCARD', LIVE), redis.call('ZCARD', ENDED), tonumber(next[2] or 0), ended, c }
