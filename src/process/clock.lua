-- KEYS[1] is the key of requestState.
local time = redis.call('TIME')
local NOW = time[1] * 1000 + math.floor(time[2] / 1000)

