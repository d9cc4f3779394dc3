"""The page's OAuthSessionTester against a server that checks tokens and ends sessions after two idle seconds."""

import asyncio

import httpx
import pytest
from servers import STRICT_CLIENT_ID, STRICT_PORT, STRICT_SECRET, base_url, refusal
from stateful_echo_client import StatefulEchoClient


class OAuthSessionTester:
    def __init__(self, gateway_url, client_id, client_secret):
        self.gateway_url = gateway_url
        self.client_id = client_id
        self.client_secret = client_secret
        self.access_token = None
        self.session_id = None

    async def test_full_flow(self):
        # 1. Get OAuth token
        self.access_token = await self.get_oauth_token()

        # 2. Initialize MCP session
        session_info = await self.initialize_mcp_session()
        assert session_info["result"]["protocolVersion"] == "2025-06-18"

        # 3. Test stateful operations
        for i in range(5):
            result = await self.echo_message(f"Message {i}")
            assert result["message"] == f"Message {i}"

        # 4. Verify session state
        info = await self.get_session_details()
        assert info["request_count"] == 5

        # 5. Test session timeout
        await asyncio.sleep(3)  # Wait for timeout

        # The page would be content with no error at all here.
        with pytest.raises(httpx.HTTPStatusError) as error:
            await self.echo_message("After timeout")
        assert refusal(error.value.response) == "expired"

    # The page leaves the rest to its reader.

    async def get_oauth_token(self):
        """Follow the challenge to the resource's metadata; the token itself comes from elsewhere, as it does for real."""
        async with httpx.AsyncClient() as client:
            challenged = await client.post(f"{self.gateway_url}/mcp", json={"jsonrpc": "2.0", "id": 0, "method": "ping"})
            assert challenged.status_code == 401
            challenge = challenged.headers["WWW-Authenticate"]
            metadata_url = challenge.split('resource_metadata="')[1].split('"')[0]
            metadata = await client.get(metadata_url)
        assert metadata.json()["resource"] == f"{self.gateway_url}/mcp"
        return self.client_secret

    async def initialize_mcp_session(self):
        self.client = StatefulEchoClient(self.gateway_url, self.access_token)
        answer = await self.client.initialize()
        self.session_id = self.client.session_id
        return answer

    async def echo_message(self, message):
        return await self.client.call_tool("echo", {"message": message})

    async def get_session_details(self):
        return await self.client.get_session_info()


async def test_full_flow():
    gateway = base_url(port=STRICT_PORT)
    await OAuthSessionTester(gateway, STRICT_CLIENT_ID, STRICT_SECRET).test_full_flow()


async def test_a_wrong_token_gets_no_session():
    refused = httpx.post(f"{base_url(port=STRICT_PORT)}/mcp", headers={"Authorization": "Bearer guessed"},
                         json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert refused.status_code == 401
    assert "Mcp-Session-Id" not in refused.headers
