-- writer, and for each: kind, digest
for i = 2, #ARGV, 2 do tell(ARGV[i], 'w', ARGV[1], 'd', ARGV[i + 1]) end
return { NOW }
