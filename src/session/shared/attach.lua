-- sid, stream, the number of the last event that was read, the writer of the log that is here, one for a log that is taken over
-- A reader comes: the one before is to go. A stream that a GET opened is written on where it is read.
local sid, stream, after, here, taker = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
if not redis.call('ZSCORE', LIVE, sid) then return { NOW, 'none' } end
local head, events = log_head(sid, stream), log_events(sid, stream)
local h = redis.call('HMGET', head, 'writer', 'next', 'reader', 'standalone', 'done')
if not h[1] then return { NOW, 'none' } end
local next, what = tonumber(h[2] or 0), 'other'
if h[1] == here then
  what = 'here'
elseif after >= next and (h[5] == '1' or writes(h[1])) then
  -- It has not been sent; or it has, and is on its way to here.
  return { NOW, 'none' }
elseif h[4] == '1' then
  what = 'taken'
  -- What the writer before did not live to bring here was read by nobody else.
  if after >= next then
    next = after + 1
    redis.call('UNLINK', events)
    redis.call('HSET', head, 'next', next, 'bytes', 0)
  end
  redis.call('HSET', head, 'writer', taker)
  redis.call('HDEL', head, 'done')
  write_on(taker)
end
local readers = redis.call('HINCRBY', head, 'reader', 1)
if readers > 1 then tell('log', 's', sid) end
return { NOW, what, readers, first_kept(events, next), next }
