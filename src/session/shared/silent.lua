-- writer, sids: it has no stream of theirs with a reader any more; another replica may have one
for i = 2, #ARGV do
  if redis.call('HGET', record(ARGV[i]), 'speaker') == ARGV[1] then tell('silent', 's', ARGV[i], 'w', ARGV[1]) end
end
return { NOW }
