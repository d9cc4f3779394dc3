-- sid, owner, handshake, timeout, capacity
local sid, timeout, capacity = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', record(sid)) == 1 then
  -- It has been done. A write, so that who waits for the disk waits for the first one too.
  redis.call('PEXPIRE', record(sid), timeout + 3600000)
  return { NOW, 'ok', tally() }
end
local operation = P .. 'op:' .. OPERATION
-- It was refused, and the answer was lost.
if redis.call('EXISTS', operation) == 1 then return { NOW, 'full', tally() } end
while redis.call('ZCARD', LIVE) >= capacity do
  if #sweep(256) == 0 then
    redis.call('HINCRBY', COUNTS, 'refused', 1)
    redis.call('SET', operation, '', 'PX', KEPT)
    return { NOW, 'full', tally() }
  end
end
redis.call('HSET', record(sid), 'owner', ARGV[2], 'handshake', ARGV[3], 'timeout', timeout, 'created', NOW)
touch(sid, timeout)
redis.call('HINCRBY', COUNTS, 'created', 1)
return { NOW, 'ok', tally() }
