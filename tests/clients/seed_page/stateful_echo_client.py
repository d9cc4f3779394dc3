"""The page's StatefulEchoClient, as printed there, and under it the methods that its later examples call.

Nothing here sends an Accept header, keeps a connection or retries: the server has to live with that.
"""

import httpx

class StatefulEchoClient:
    def __init__(self, base_url, token):
        self.base_url = base_url
        self.token = token
        self.session_id = None

    async def initialize(self):
        """Initialize session and get session ID"""
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/mcp",
                headers={
                    "Authorization": f"Bearer {self.token}",
                    "Content-Type": "application/json"
                },
                json={
                    "jsonrpc": "2.0",
                    "method": "initialize",
                    "params": {
                        "protocolVersion": "2025-06-18",
                        "capabilities": {},
                        "clientInfo": {
                            "name": "echo-client",
                            "version": "1.0"
                        }
                    },
                    "id": 1
                }
            )

            # Save session ID
            self.session_id = response.headers.get("Mcp-Session-Id")
            return response.json()

    async def echo_with_state(self, message):
        """Echo message using existing session"""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json"
        }

        if self.session_id:
            headers["Mcp-Session-Id"] = self.session_id

        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/mcp",
                headers=headers,
                json={
                    "jsonrpc": "2.0",
                    "method": "tools/call",
                    "params": {
                        "name": "echo",
                        "arguments": {"message": message}
                    },
                    "id": 2
                }
            )

            return response.json()

    # The page stops here; its examples go on to use these.

    async def call_tool(self, name, arguments):
        """Call one tool and return its structured content, or raise with the server's own words."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json"
        }

        if self.session_id:
            headers["Mcp-Session-Id"] = self.session_id

        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/mcp",
                headers=headers,
                json={
                    "jsonrpc": "2.0",
                    "method": "tools/call",
                    "params": {"name": name, "arguments": arguments},
                    "id": 3
                }
            )

        response.raise_for_status()
        result = response.json()["result"]
        assert not result.get("isError"), result
        return result["structuredContent"]

    async def set_session_data(self, key, value):
        return await self.call_tool("set_session_data", {"key": key, "value": value})

    async def get_session_data(self, key):
        return (await self.call_tool("get_session_data", {"key": key}))["value"]

    async def get_session_info(self):
        return await self.call_tool("get_session_info", {})
