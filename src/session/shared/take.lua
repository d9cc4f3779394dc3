-- sid, question: its answer, if there is one. It stays until the question is withdrawn, since this reply may be lost.
return { NOW, redis.call('GET', question(ARGV[1], ARGV[2])) or '' }
