-- sid, touch, count, whether there is an echo, echo, whether there is a value, key, value, keys at the most, bytes at the
-- most, initialized, level, want
local sid = ARGV[1]
local S, D = record(sid), data(sid)
local alive, just_now = lives(sid)
if not alive then return gone(sid, just_now) end
local timeout = redis.call('HGET', S, 'timeout')
if not timeout then return lost(sid) end
local operation = OPERATION ~= '' and P .. 'op:' .. OPERATION
local before = operation and redis.call('GET', operation)
if before then
  -- It has been done, and the answer was lost. A write, so that who waits for the disk waits for the first one too.
  redis.call('PEXPIRE', operation, KEPT)
  local reply = told(sid, ARGV[13])
  local count, first, last, replaced = string.match(before, '(%d+) (%d+) (%d+) (%d)')
  reply[4], reply[5], reply[6], reply[12] = count, first, last, replaced
  return reply
end

local grown, replaced, bytes = 0, 0, nil
local max_bytes = tonumber(ARGV[10])
if ARGV[6] == '1' then
  local key, value = ARGV[7], ARGV[8]
  local old = redis.call('HSTRLEN', D, key)
  if old == 0 and redis.call('HLEN', D) >= tonumber(ARGV[9]) then return { NOW, 'keys' } end
  replaced = old > 0 and 1 or 0
  local held = tonumber(redis.call('HGET', S, 'bytes') or 0)
  bytes = held + #value - old + (old > 0 and 0 or #key)
  if bytes > max_bytes then return { NOW, 'bytes', bytes } end
  grown = bytes - held
end
local echo = ARGV[4] == '1' and ARGV[5]
if echo then grown = grown + (#echo <= max_bytes and #echo or 0) - redis.call('HSTRLEN', S, 'echo') end

-- Nothing is refused from here on.
if bytes then
  redis.call('HSET', D, ARGV[7], ARGV[8])
  redis.call('HSET', S, 'bytes', bytes)
  if redis.call('PTTL', D) < 0 then redis.call('PEXPIRE', D, redis.call('PTTL', S)) end
end
if echo then
  if #echo <= max_bytes then
    redis.call('HSET', S, 'echo', echo)
  else
    redis.call('HDEL', S, 'echo')
    redis.call('HSET', S, 'large', 1)
  end
end
if grown ~= 0 then redis.call('HINCRBY', COUNTS, 'bytes', grown) end
if ARGV[11] == '1' then redis.call('HSET', S, 'initialized', 1) end
if ARGV[12] ~= '' then
  redis.call('HSET', S, 'level', ARGV[12])
  tell('level', 's', sid, 'l', ARGV[12])
end
if ARGV[3] == '1' then
  if redis.call('HINCRBY', S, 'count', 1) == 1 then redis.call('HSET', S, 'first', NOW) end
  redis.call('HSET', S, 'last', NOW)
end
if ARGV[2] == '1' then touch(sid, tonumber(timeout)) end
local reply = told(sid, ARGV[13])
reply[12] = replaced
if operation then
  redis.call('SET', operation, string.format('%d %d %d %d', reply[4], reply[5], reply[6], replaced), 'PX', KEPT)
end
return reply
