-- sid, writer, digest of a URI
local was = redis.call('HDEL', subscriptions(ARGV[1]), ARGV[3])
if was == 1 then tell('unfollow', 's', ARGV[1], 'w', ARGV[2], 'd', ARGV[3]) end
write_again(record(ARGV[1]))
return { NOW }
