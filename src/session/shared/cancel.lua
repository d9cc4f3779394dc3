-- sid, writer, id of a call as JSON
tell('cancel', 's', ARGV[1], 'w', ARGV[2], 'c', ARGV[3])
return { NOW }
