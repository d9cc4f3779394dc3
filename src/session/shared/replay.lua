-- sid, stream, the number of the first event that is wanted: some events from there on
local sid, stream, from = ARGV[1], ARGV[2], tonumber(ARGV[3])
local head, events = log_head(sid, stream), log_events(sid, stream)
local h = redis.call('HMGET', head, 'writer', 'next', 'reader', 'done')
if not h[1] then return { NOW, 'none' } end
local next = tonumber(h[2] or 0)
local frames, bytes = {}, 0
if from < next then
  for _, event in ipairs(redis.call('XRANGE', events, string.format('%d-0', from + 1), '+', 'COUNT', 64)) do
    frames[#frames + 1] = event[2][2]
    bytes = bytes + #event[2][2]
    if bytes > 524288 then break end
  end
end
local standing = h[4] and 'done' or writes(h[1]) and 'written' or 'left'
return { NOW, 'ok', tonumber(h[3] or 0), standing, first_kept(events, next), next, frames }
