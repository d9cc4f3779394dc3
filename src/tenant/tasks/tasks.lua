-- Tasks of an instance. ARGV[1] is what to do; what that needs follows.
--   t:DIGEST  HASH  owner, status, created, updated, ttl, version (of its state), rounds, o:KEY (an open question),
--                   a:KEY (its answer), result or error; questions, answers and results are JSON, which is not read here
--   tasks     ZSET  digest -> when its time is over; as many as there may be
--   leases    ZSET  digest -> until when its replica is taken to work on it; those that have not ended
--   stages    HASH  how many there are in each state, and when someone was last here
local TASKS, LEASES, STAGES = P .. 'tasks', P .. 'leases', P .. 'stages'
local GONE = '{"code":-32603,"message":"the replica that ran it is gone"}'
local function task(digest) return P .. 't:' .. digest end

local function count(status, by) redis.call('HINCRBY', STAGES, status, by) end

local function changed(digest)
  redis.call('HSET', task(digest), 'updated', NOW)
  redis.call('HINCRBY', task(digest), 'version', 1)
  tell('task', 'd', digest)
end

-- Enters another state; false if the present one is final.
local function enter(digest, status)
  local before = redis.call('HGET', task(digest), 'status')
  if before ~= 'working' and before ~= 'input_required' then return false end
  redis.call('HSET', task(digest), 'status', status)
  if status ~= 'working' and status ~= 'input_required' then redis.call('ZREM', LEASES, digest) end
  count(before, -1)
  count(status, 1)
  changed(digest)
  return true
end

local function forget_task(digest)
  local status = redis.call('HGET', task(digest), 'status')
  if redis.call('ZREM', TASKS, digest) == 1 and status then count(status, -1) end
  redis.call('ZREM', LEASES, digest)
  redis.call('UNLINK', task(digest))
  tell('task', 'd', digest)
end

local function lapse(digest)
  redis.call('HSET', task(digest), 'error', GONE)
  enter(digest, 'failed')
end

-- Whether its time is not over. One that nobody works on any more has failed.
local function there(digest)
  local over = redis.call('ZSCORE', TASKS, digest)
  if not over then return false end
  if tonumber(over) <= NOW then
    forget_task(digest)
    return false
  end
  local lease = redis.call('ZSCORE', LEASES, digest)
  if lease and tonumber(lease) <= NOW then lapse(digest) end
  return true
end

local function theirs(digest, owner)
  return there(digest) and redis.call('HGET', task(digest), 'owner') == owner
end

-- At most so many of those whose time is over.
local function sweep_tasks(most)
  local over = redis.call('ZRANGE', TASKS, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, most)
  for _, digest in ipairs(over) do forget_task(digest) end
  return #over
end

-- Where nobody was here for a while, the store was away: then no replica could renew a lease, and all may do so now.
local seen = tonumber(redis.call('HGET', STAGES, 'seen') or NOW)
if NOW - seen > LEASE / 2 then
  for _, digest in ipairs(redis.call('ZRANGE', LEASES, '-inf', NOW + LEASE / 2, 'BYSCORE')) do
    redis.call('ZADD', LEASES, NOW + LEASE, digest)
  end
end
-- A change that was asked for again writes this alone, so that who waits for the disk waits for the first one too.
if NOW - seen > LEASE / 10 or seen == NOW or OPERATION ~= '' then redis.call('HSET', STAGES, 'seen', NOW) end

local act = {}

-- digest, owner, time to live, capacity
function act.create(digest, owner, ttl, capacity)
  if redis.call('ZSCORE', TASKS, digest) then return { NOW, 'ok' } end
  while redis.call('ZCARD', TASKS) >= tonumber(capacity) do
    if sweep_tasks(256) == 0 then return { NOW, 'full' } end
  end
  local T = task(digest)
  redis.call('HSET', T, 'owner', owner, 'status', 'working', 'version', 0, 'created', NOW, 'updated', NOW, 'ttl', ttl)
  redis.call('PEXPIRE', T, tonumber(ttl) + 3600000)
  redis.call('ZADD', TASKS, NOW + tonumber(ttl), digest)
  redis.call('ZADD', LEASES, NOW + LEASE, digest)
  count('working', 1)
  return { NOW, 'ok' }
end

-- digest, owner
function act.get(digest, owner)
  if not theirs(digest, owner) then return { NOW, 'gone' } end
  return { NOW, 'ok', redis.call('HGETALL', task(digest)) }
end

-- owner, and tasks: the version of each that is the owner's
function act.own(owner, ...)
  local versions = {}
  for i, digest in ipairs({ ... }) do
    versions[i] = theirs(digest, owner) and redis.call('HGET', task(digest), 'version') or ''
  end
  return { NOW, versions }
end

-- digest, round, and each key with its question
function act.ask(digest, round, ...)
  local T, questions = task(digest), { ... }
  if not there(digest) then return { NOW, 'gone' } end
  -- It has been done, and the answer was lost.
  if tonumber(redis.call('HGET', T, 'rounds') or 0) >= tonumber(round) then return { NOW, 'ok' } end
  redis.call('HSET', T, 'rounds', round)
  for _, name in ipairs(redis.call('HKEYS', T)) do
    if string.sub(name, 1, 2) == 'a:' then redis.call('HDEL', T, name) end
  end
  for i = 1, #questions, 2 do redis.call('HSET', T, 'o:' .. questions[i], questions[i + 1]) end
  if not enter(digest, #questions > 0 and 'input_required' or 'working') then return { NOW, 'gone' } end
  return { NOW, 'ok' }
end

-- digest, owner, and each key with its answer; those to no open question are ignored
function act.update(digest, owner, ...)
  local T, answers, taken = task(digest), { ... }, 0
  if not theirs(digest, owner) then return { NOW, 'gone' } end
  if redis.call('HGET', T, 'status') ~= 'input_required' then return { NOW, 'ok' } end
  for i = 1, #answers, 2 do
    if redis.call('HDEL', T, 'o:' .. answers[i]) == 1 then
      redis.call('HSET', T, 'a:' .. answers[i], answers[i + 1])
      taken = taken + 1
    end
  end
  if taken == 0 then return { NOW, 'ok' } end
  for _, name in ipairs(redis.call('HKEYS', T)) do
    if string.sub(name, 1, 2) == 'o:' then
      changed(digest)
      return { NOW, 'ok' }
    end
  end
  enter(digest, 'working')
  return { NOW, 'ok' }
end

-- digest, owner
function act.cancel(digest, owner)
  if not theirs(digest, owner) then return { NOW, 'gone' } end
  enter(digest, 'cancelled')
  return { NOW, 'ok' }
end

-- digest, status, the name of what it has come to, and that
function act.finish(digest, status, name, value)
  if not there(digest) then return { NOW, 'gone' } end
  local before = redis.call('HGET', task(digest), 'status')
  if before == 'working' or before == 'input_required' then
    redis.call('HSET', task(digest), name, value)
    enter(digest, status)
  end
  return { NOW, 'ok' }
end

-- whether to renew leases, how many tasks are worked on by who asks, those, each with the round whose answers are
-- awaited; and those that are listened to, each with the version that was told
function act.look(renew, own, ...)
  local names, mine, others = { ... }, {}, {}
  for i = 1, #names, 2 do
    local digest, T = names[i], task(names[i])
    if i <= 2 * tonumber(own) then
      if renew == '1' and redis.call('ZSCORE', LEASES, digest) then
        redis.call('ZADD', LEASES, NOW + LEASE, digest)
      end
      local alive, answers = there(digest), {}
      local s = redis.call('HMGET', T, 'status', 'rounds')
      if alive and s[1] == 'working' and s[2] == names[i + 1] then answers = redis.call('HGETALL', T) end
      mine[#mine + 1] = { digest, alive and s[1] or 'gone', answers }
    elseif there(digest) and redis.call('HGET', T, 'version') ~= names[i + 1] then
      others[#others + 1] = { digest, redis.call('HGETALL', T) }
    end
  end
  return { NOW, mine, others }
end

-- Ends what is due, and counts.
function act.sweep()
  local swept = sweep_tasks(256)
  local lapsed = redis.call('ZRANGE', LEASES, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, 256)
  for _, digest in ipairs(lapsed) do there(digest) end
  local next = redis.call('ZRANGE', TASKS, 0, 0, 'WITHSCORES')
  if not next[1] then redis.call('UNLINK', STAGES) end
  local c = redis.call('HMGET', STAGES, 'working', 'input_required', 'completed', 'failed', 'cancelled')
  for i = 1, 5 do c[i] = math.max(tonumber(c[i] or 0), 0) end
  return { NOW, swept + #lapsed, tonumber(next[2] or 0), c }
end

return act[ARGV[1]](unpack(ARGV, 2))
