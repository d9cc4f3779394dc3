# Test different instances maintain separate state
for i in {0..2}; do
  echo "Testing echo-stateful$i..."

  curl -X POST "https://echo-stateful$i.example.com/mcp" \
    -H "Authorization: Bearer $TOKEN" \
    -H "Content-Type: application/json" \
    -d "{
      \"jsonrpc\": \"2.0\",
      \"method\": \"tools/call\",
      \"params\": {
        \"name\": \"echo\",
        \"arguments\": {
          \"message\": \"Instance $i test\"
        }
      },
      \"id\": 1
    }"
done
