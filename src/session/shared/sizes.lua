-- sid: the keys of its data and how large their values are
local keys = redis.call('HKEYS', data(ARGV[1]))
local sizes = {}
for i, key in ipairs(keys) do sizes[i] = redis.call('HSTRLEN', data(ARGV[1]), key) end
return { NOW, keys, sizes }
