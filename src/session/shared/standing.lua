-- sids: which of them live, and their levels
local standing = {}
for i = 1, #ARGV - 2 do
  local alive = lives(ARGV[i])
  standing[i] = alive and (redis.call('HGET', record(ARGV[i]), 'level') or '-') or ''
end
return { NOW, standing }
