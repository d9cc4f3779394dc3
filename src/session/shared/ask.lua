-- sid, question, how long it may be answered: from now on any replica takes the answer
redis.call('SET', question(ARGV[1], ARGV[2]), '', 'NX', 'PX', ARGV[3])
return { NOW }
