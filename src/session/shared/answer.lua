-- sid, question, answer: taken if the question is open
local Q = question(ARGV[1], ARGV[2])
local open = redis.call('GET', Q) == ''
if open then
  redis.call('SET', Q, ARGV[3], 'KEEPTTL')
  tell('answer', 's', ARGV[1], 'q', ARGV[2])
else
  write_again(Q)
end
return { NOW, open and 1 or 0 }
