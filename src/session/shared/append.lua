-- sid, stream, writer, whether a GET opened it, '1' if it is finished or '2' if it was cut off, then number and frame of each
-- event: those that are there already are passed over
local sid, stream, writer = ARGV[1], ARGV[2], ARGV[3]
if not redis.call('ZSCORE', LIVE, sid) then return { NOW, 'gone' } end
local head, events = log_head(sid, stream), log_events(sid, stream)
local h = redis.call('HMGET', head, 'writer', 'next', 'bytes', 'reader')
if not h[1] then
  forget_logs(sid, 15)
  redis.call('ZADD', logs(sid), NOW, stream)
  redis.call('HSET', head, 'writer', writer, 'standalone', ARGV[4])
elseif h[1] ~= writer then
  return { NOW, 'moved' }
end

local next, bytes = tonumber(h[2] or 0), tonumber(h[3] or 0)
for i = 6, #ARGV - 1, 2 do
  local number, frame = tonumber(ARGV[i]), ARGV[i + 1]
  if number >= next then
    redis.call('XADD', events, string.format('%d-0', number + 1), 'f', frame)
    next, bytes = number + 1, bytes + #frame
  end
end
local length = redis.call('XLEN', events)
while length > 256 or (bytes > 4194304 and length > 1) do
  local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', events, oldest[1])
  length, bytes = length - 1, bytes - #oldest[2][2]
end
redis.call('HSET', head, 'next', next, 'bytes', bytes)
if ARGV[5] ~= '' then redis.call('HSET', head, 'done', ARGV[5]) end
local left = redis.call('PTTL', record(sid))
for _, key in ipairs({ logs(sid), head, events }) do
  if redis.call('PTTL', key) < left then redis.call('PEXPIRE', key, left) end
end
write_on(writer)
-- It may be followed elsewhere.
if tonumber(h[4] or 0) > 0 then tell('log', 's', sid) end
return { NOW, 'ok', h[4] or 0 }
