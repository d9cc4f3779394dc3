-- sid, question, answer: taken if the question is open
local Q = question(ARGV[1], ARGV[2])
local open = redis.call('GET', Q) == ''
if open then
  redis.call('SET', Q, ARGV[3], 'KEEPTTL')
  tell('answer', 's', ARGV[1], 'q', ARGV[2])
else
  -- A write, so that who waits for the disk waits for the first one too.
  redis.call('PEXPIRE', Q, redis.call('PTTL', Q))
end
return { NOW, open and 1 or 0 }
