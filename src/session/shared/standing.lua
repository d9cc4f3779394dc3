-- sids: which of them live, their levels, and who speaks to their clients
local standing = {}
for i = 1, #ARGV do
  local s = lives(ARGV[i]) and redis.call('HMGET', record(ARGV[i]), 'level', 'speaker')
  standing[i] = { s and 1 or 0, s and s[1] or '', s and s[2] or '' }
end
return { NOW, standing }
