-- sid, owner, want, whether what never changes is wanted too
local sid, owner = ARGV[1], ARGV[2]
local alive, just_now = lives(sid)
if not alive then return gone(sid, just_now) end
local head = redis.call('HMGET', record(sid), 'owner', 'timeout', 'handshake', 'created')
if not head[1] then return lost(sid) end
-- It lives, but not for this caller.
if head[1] ~= owner then return { NOW, 'gone', '', 2 } end
touch(sid, tonumber(head[2]))
local reply = told(sid, ARGV[3])
if ARGV[4] == '1' then
  for i = 2, 4 do reply[#reply + 1] = head[i] end
end
return reply
