-- pairs of sid and question: they are not awaited any more
for i = 1, #ARGV, 2 do redis.call('UNLINK', question(ARGV[i], ARGV[i + 1])) end
return { NOW }
