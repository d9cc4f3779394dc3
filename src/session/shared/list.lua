-- cursor, how many, pattern: some of the live sessions
local found = redis.call('ZSCAN', LIVE, ARGV[1], 'COUNT', ARGV[2], 'MATCH', ARGV[3])
local some = {}
for i = 1, #found[2], 2 do
  local sid = found[2][i]
  if tonumber(found[2][i + 1]) > idle_clock() then
    local head = redis.call('HMGET', record(sid), 'owner', 'timeout', 'handshake', 'created')
    if head[2] then
      local s = told(sid, '')
      some[#some + 1] = { sid, head[2], head[3], head[4], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10] }
    end
  end
end
return { NOW, found[1], some }
