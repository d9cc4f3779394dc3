-- What every script begins with. KEYS[1] is the set of live sessions; all keys of an instance have its beginning and its slot.
local P = string.sub(KEYS[1], 1, -5)
local LIVE, COUNTS, ENDED, ENDINGS = P .. 'live', P .. 'counts', P .. 'ended', P .. 'endings'
-- What comes last is given to every script. Who asks could not reach the store from AWAY_FROM to AWAY_TILL, which may be
-- later than now.
local AWAY_TILL = tonumber(table.remove(ARGV))
local AWAY_FROM = tonumber(table.remove(ARGV))
local NOT_AFTER = tonumber(table.remove(ARGV))
local SENT = tonumber(table.remove(ARGV))
local OPERATION = table.remove(ARGV)
-- An operation begins with how long what it came to is remembered, in milliseconds: until no repetition can come.
local KEPT = tonumber(string.match(OPERATION, '^%d+'))
local time = redis.call('TIME')
local NOW = time[1] * 1000 + math.floor(time[2] / 1000)

-- Asked too late: whoever sent it waits no more, and may have told that it was not done.
if NOW > NOT_AFTER then
  return redis.error_reply('LATE ' .. string.format('%d', NOW))
end

local function record(sid) return P .. 's:' .. sid end
local function data(sid) return P .. 'd:' .. sid end
local function subscriptions(sid) return P .. 'u:' .. sid end
local function question(sid, number) return P .. 'a:' .. sid .. ':' .. number end

-- Tells all replicas what has happened: a kind, and its members by name. They read it in order; the bell says that
-- there is something to read, and says so once a script.
local NEWS, rung = P .. 'news', false
local function tell(kind, ...)
  redis.call('XADD', NEWS, 'MAXLEN', '~', 10000, '*', 'k', kind, ...)
  if not rung then redis.call('PUBLISH', P .. 'bell', '') end
  rung = true
end

-- The event logs of a session: their streams by when they began, and of each a head and its events.
local function logs(sid) return P .. 'l:' .. sid end
local function log_head(sid, stream) return P .. 'h:' .. sid .. ':' .. stream end
local function log_events(sid, stream) return P .. 'e:' .. sid .. ':' .. stream end

-- A writer is a replica and a number. A replica that has not been heard of for a while writes no more.
local function replica(writer) return string.match(writer, '^[^:]*') end
local function write_on(writer) redis.call('ZADD', P .. 'writers', NOW + 4000, replica(writer)) end
local function writes(writer) return tonumber(redis.call('ZSCORE', P .. 'writers', replica(writer)) or 0) > NOW end

-- The number of the first event that is kept of a log.
local function first_kept(events, next)
  local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  return oldest and tonumber(string.match(oldest[1], '^%d+')) - 1 or next
end

-- Forgets the oldest logs that nobody writes any more, but so many.
local function forget_logs(sid, but)
  local over = {}
  for _, stream in ipairs(redis.call('ZRANGE', logs(sid), 0, -1)) do
    local h = redis.call('HMGET', log_head(sid, stream), 'writer', 'done')
    if h[2] or not h[1] or not writes(h[1]) then over[#over + 1] = stream end
  end
  for i = 1, #over - but do
    redis.call('ZREM', logs(sid), over[i])
    redis.call('UNLINK', log_head(sid, over[i]), log_events(sid, over[i]))
  end
end

-- Ends are remembered for an hour, and at most 10,000 of them.
local function forget()
  local old = redis.call('ZRANGE', ENDED, 0, NOW - 3600000, 'BYSCORE', 'LIMIT', 0, 100)
  local over = redis.call('ZCARD', ENDED) - 10000
  if over > #old then old = redis.call('ZRANGE', ENDED, 0, over - 1) end
  for _, sid in ipairs(old) do
    redis.call('ZREM', ENDED, sid)
    redis.call('HDEL', ENDINGS, sid)
  end
end

-- Ends a session; false if it was not live. Only one can take it from the live ones.
local function finish(sid, reason)
  -- Fails while the slot moves to another server key by key, before anything is done.
  redis.call('EXISTS', record(sid), data(sid), subscriptions(sid), logs(sid), COUNTS, ENDED, ENDINGS, NEWS)
  -- A store that is full does not refuse this, nor what follows once a script has written: ends make room.
  if redis.call('ZREM', LIVE, sid) == 0 then return false end
  local s = redis.call('HMGET', record(sid), 'owner', 'timeout', 'bytes')
  local held = (tonumber(s[3]) or 0) + redis.call('HSTRLEN', record(sid), 'echo')
  for _, stream in ipairs(redis.call('ZRANGE', logs(sid), 0, -1)) do
    redis.call('UNLINK', log_head(sid, stream), log_events(sid, stream))
  end
  redis.call('UNLINK', record(sid), data(sid), subscriptions(sid), logs(sid))
  redis.call('HINCRBY', COUNTS, reason, 1)
  if held > 0 then redis.call('HINCRBY', COUNTS, 'bytes', -held) end
  -- Nothing is known of one whose keys went first, since nobody was there to end it for an hour.
  if s[1] then
    redis.call('ZADD', ENDED, NOW, sid)
    redis.call('HSET', ENDINGS, sid, reason .. ' ' .. s[2] .. ' ' .. s[1])
  end
  tell('end', 's', sid)
  forget()
  return true
end

-- What is held outlives a tick which comes late, by so long.
local LEASE = 10000

-- Sessions are due on a clock that stands still while the store is away, since nobody can use one then.
local stood_still
local function idle_clock()
  stood_still = stood_still or tonumber(redis.call('HGET', COUNTS, 'away') or 0)
  return NOW - stood_still
end

-- Stops that clock for the time since the last tick in which the store was away, as far as this can be told: who asks
-- knows, or no tick has come for a while, or this has come late. Keys outlive their sessions by half an hour at the least,
-- so what was longer is not made up for.
local function make_up()
  local seen = tonumber(redis.call('HGET', COUNTS, 'seen') or NOW)
  local from, till = math.max(seen, AWAY_FROM), math.min(NOW, AWAY_TILL)
  if NOW - seen > LEASE / 2 or NOW - SENT > (NOT_AFTER - SENT) / 2 then from, till = seen, NOW end
  if till <= from or till - from > 1500000 then return end
  -- A store that is full takes what follows this.
  redis.call('ZREM', LIVE, '')
  stood_still = redis.call('HINCRBY', COUNTS, 'away', till - from)
  redis.call('HSET', COUNTS, 'seen', NOW)
end

-- Whether a session lives. One that is due is ended by whoever notices; the second value says that this was now.
local function lives(sid)
  local due = redis.call('ZSCORE', LIVE, sid)
  if not due then return false, false end
  due = tonumber(due)
  if due <= idle_clock() then make_up() end
  if due > idle_clock() then return true, false end
  return false, finish(sid, 'expired')
end

-- A write that changes nothing. What was done already ends with one, so that who waits for the disk waits for what was
-- written the first time.
local function write_again(key) redis.call('PEXPIRE', key, redis.call('PTTL', key)) end

-- A session lives, and its record is gone: a store that throws keys away did that. Nothing is known of it any more.
local function lost(sid)
  finish(sid, 'expired')
  return { NOW, 'gone', '', 0 }
end

-- What became of a session that does not live.
local function gone(sid, just_now)
  return { NOW, 'gone', redis.call('HGET', ENDINGS, sid) or '', just_now and 1 or 0 }
end

-- Ends sessions that are due, at most so many; returns them.
local function sweep(most)
  make_up()
  local due = redis.call('ZRANGE', LIVE, '-inf', idle_clock(), 'BYSCORE', 'LIMIT', 0, most)
  for _, sid in ipairs(due) do finish(sid, 'expired') end
  if #due > 0 and redis.call('ZCARD', LIVE) == 0 then redis.call('HSET', COUNTS, 'bytes', 0) end
  return due
end

-- Sets the idle clock back, but never brings the end of a session nearer, which a process may hold. The keys themselves
-- outlive it, so that one which everyone has forgotten goes at last.
local function touch(sid, timeout)
  redis.call('HSET', record(sid), 'touched', NOW)
  redis.call('ZADD', LIVE, 'GT', idle_clock() + timeout, sid)
  if redis.call('PTTL', record(sid)) < timeout + 1800000 then
    redis.call('PEXPIRE', record(sid), timeout + 3600000)
    redis.call('PEXPIRE', data(sid), timeout + 3600000)
    redis.call('PEXPIRE', subscriptions(sid), timeout + 3600000)
    for _, stream in ipairs(redis.call('ZRANGE', logs(sid), 0, -1)) do
      redis.call('PEXPIRE', log_head(sid, stream), timeout + 3600000)
      redis.call('PEXPIRE', log_events(sid, stream), timeout + 3600000)
    end
    redis.call('PEXPIRE', logs(sid), timeout + 3600000)
  end
end

-- A session as it is, with what is wanted beside: 'd' its data, 'e' its last echo.
local function told(sid, want)
  local s = redis.call('HMGET', record(sid), 'touched', 'count', 'first', 'last', 'initialized', 'level', 'bytes')
  local more = {}
  if want == 'd' then
    more = redis.call('HGETALL', data(sid))
  elseif want == 'e' then
    local e = redis.call('HMGET', record(sid), 'echo', 'large')
    more = { e[1] and 'kept' or e[2] and 'large' or 'none', e[1] or '' }
  end
  return {
    NOW, 'ok', s[1] or NOW, s[2] or 0, s[3] or 0, s[4] or 0, s[5] or 0, s[6] or '', redis.call('HLEN', data(sid)), s[7] or 0, more, 0,
  }
end

-- What there is and has been. Each but the first and the fourth only grows.
local function tally()
  local c = redis.call('HMGET', COUNTS, 'created', 'refused', 'bytes', 'expired', 'client', 'admin', 'shutdown')
  for i = 1, 7 do c[i] = tonumber(c[i] or 0) end
  table.insert(c, 1, redis.call('ZCARD', LIVE))
  return c
end
