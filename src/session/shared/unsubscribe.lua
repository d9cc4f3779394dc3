-- sid, writer, digest of a URI
local was = redis.call('HDEL', subscriptions(ARGV[1]), ARGV[3])
if was == 1 then tell('unfollow', 's', ARGV[1], 'w', ARGV[2], 'd', ARGV[3]) end
-- A write whatever was there, so that who waits for the disk waits for the first one too.
redis.call('PEXPIRE', record(ARGV[1]), redis.call('PTTL', record(ARGV[1])))
return { NOW }
