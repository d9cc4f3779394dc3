-- sid, writer, who speaks to the client from now on, or nobody, to ask only: what the client has subscribed to
if ARGV[2] ~= '' and lives(ARGV[1]) then
  redis.call('HSET', record(ARGV[1]), 'speaker', ARGV[2])
  tell('speaker', 's', ARGV[1], 'w', ARGV[2])
end
return { NOW, redis.call('HGETALL', subscriptions(ARGV[1])) }
