# Monitor active sessions
curl https://echo-stateful.example.com/debug/sessions \
  -H "Authorization: Bearer $ADMIN_TOKEN"
