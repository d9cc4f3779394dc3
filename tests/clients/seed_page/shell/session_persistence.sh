# First request - creates session
SESSION_ID=$(curl -s -X POST https://echo-stateful.example.com/mcp \
  -H "Authorization: Bearer $TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "jsonrpc": "2.0",
    "method": "tools/call",
    "params": {
      "name": "echo",
      "arguments": {"message": "First message"}
    },
    "id": 1
  }' -D - | grep -i "mcp-session-id" | cut -d' ' -f2)

# Subsequent request - uses existing session
curl -X POST https://echo-stateful.example.com/mcp \
  -H "Authorization: Bearer $TOKEN" \
  -H "Content-Type: application/json" \
  -H "Mcp-Session-Id: $SESSION_ID" \
  -d '{
    "jsonrpc": "2.0",
    "method": "tools/call",
    "params": {
      "name": "get_session_info",
      "arguments": {}
    },
    "id": 2
  }'
