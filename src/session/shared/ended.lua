-- from, to: the last ends
local some = {}
for _, sid in ipairs(redis.call('ZRANGE', ENDED, ARGV[1], ARGV[2], 'REV')) do
  some[#some + 1] = { sid, redis.call('ZSCORE', ENDED, sid), redis.call('HGET', ENDINGS, sid) or '' }
end
return { NOW, some }
