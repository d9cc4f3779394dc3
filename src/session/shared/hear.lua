-- the last entry that was heard of, how many entries at the most. The first time there is none: says where to begin
local function id_of(entries) return entries[1] and entries[1][1] or '0-0' end
local function later(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  if a1 ~= b1 then return tonumber(a1) > tonumber(b1) end
  return tonumber(a2) > tonumber(b2)
end

local last = ARGV[1]
local newest = id_of(redis.call('XREVRANGE', NEWS, '+', '-', 'COUNT', 1))
if last == newest and newest ~= '0-0' then return { NOW, 0, last, {} } end
-- A stream that is empty would look the same if the store lost it, so it never is.
local new = newest == '0-0'
if new then newest = redis.call('XADD', NEWS, '*', 'k', 'begin') end
-- One that ends before that is another one, or what another server knew of it. Of what was trimmed nobody knows whether
-- it has been heard. Whoever has missed something asks how all stands, and needs not hear how it came about.
local oldest = id_of(redis.call('XRANGE', NEWS, '-', '+', 'COUNT', 1))
if last == '' or new or later(last, newest) or later(oldest, last) then return { NOW, 1, newest, {} } end
local entries = redis.call('XRANGE', NEWS, '(' .. last, '+', 'COUNT', ARGV[2])
return { NOW, 0, entries[#entries][1], entries }
