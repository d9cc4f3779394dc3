-- sid, writer, digest of a URI, veiled URI, subscriptions at the most
local sid = ARGV[1]
local U = subscriptions(sid)
if not lives(sid) then return { NOW, 'gone' } end
if redis.call('HEXISTS', U, ARGV[3]) == 1 then
  write_again(U)
  return { NOW, 'ok' }
end
if redis.call('HLEN', U) >= tonumber(ARGV[5]) then return { NOW, 'many' } end
redis.call('HSET', U, ARGV[3], ARGV[4])
redis.call('PEXPIRE', U, redis.call('PTTL', record(sid)))
tell('follow', 's', sid, 'w', ARGV[2], 'd', ARGV[3], 'u', ARGV[4])
return { NOW, 'ok' }
