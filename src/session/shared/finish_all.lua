-- reason: ends some of the live sessions; to be called until none is left
local some = redis.call('ZRANGE', LIVE, 0, 255)
local ended = {}
for _, sid in ipairs(some) do
  if lives(sid) and finish(sid, ARGV[1]) then ended[#ended + 1] = sid end
end
return { NOW, #some, ended, tally() }
