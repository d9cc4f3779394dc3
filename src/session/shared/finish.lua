-- sid, reason
local operation = P .. 'op:' .. OPERATION
-- Done already: a write, so that who waits for the disk waits for the first one too.
if redis.call('PEXPIRE', operation, KEPT) == 1 then return { NOW, 1, 0, tally() } end
local alive, just_now = lives(ARGV[1])
if not alive then return { NOW, 0, just_now and 1 or 0, tally() } end
finish(ARGV[1], ARGV[2])
redis.call('SET', operation, 1, 'PX', KEPT)
return { NOW, 1, 0, tally() }
