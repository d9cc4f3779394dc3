-- sid, question, answer: taken if the question is open
local open = redis.call('GET', question(ARGV[1], ARGV[2])) == ''
if open then
  redis.call('SET', question(ARGV[1], ARGV[2]), ARGV[3], 'KEEPTTL')
  tell('answer', 's', ARGV[1], 'q', ARGV[2])
end
return { NOW, open and 1 or 0 }
