-- Which command a user may not run on this key, or to this channel; '' if it may run them all. See check.rs.
local key, channel = KEYS[1], ARGV[1]
local commands = {
  { 'TIME' }, { 'GET', key }, { 'SET', key, 'x' }, { 'EXISTS', key }, { 'UNLINK', key },
  { 'PEXPIRE', key, 1 }, { 'PTTL', key },
  { 'HSET', key, 'x', 'x' }, { 'HMGET', key, 'x' }, { 'HINCRBY', key, 'x', 1 }, { 'HDEL', key, 'x' },
  { 'ZADD', key, 1, 'x' }, { 'ZRANGE', key, 0, 0 }, { 'ZREM', key, 'x' }, { 'ZCARD', key },
  { 'XADD', key, '*', 'x', 'x' }, { 'XRANGE', key, '-', '+' },
  { 'HGET', key, 'x' }, { 'HEXISTS', key, 'x' }, { 'HLEN', key }, { 'HKEYS', key }, { 'HGETALL', key }, { 'HSTRLEN', key, 'x' },
  { 'ZSCORE', key, 'x' }, { 'ZSCAN', key, 0 }, { 'ZREMRANGEBYSCORE', key, 0, 0 },
  { 'XDEL', key, '0-1' }, { 'XLEN', key }, { 'XREVRANGE', key, '+', '-' },
  { 'PUBLISH', channel, 'x' }, { 'SUBSCRIBE', channel }, { 'EVALSHA', 'x', 1, key },
}
for _, command in ipairs(commands) do
  if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(command)) then return command[1] end
end
return ''
