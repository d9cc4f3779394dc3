-- key: it becomes the key of all replicas, unless there is one
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return { NOW, redis.call('GET', KEYS[1]) }
