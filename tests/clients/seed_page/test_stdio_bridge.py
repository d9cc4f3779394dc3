"""The page's Claude Desktop entry: its bridge, mcp-streamablehttp-client, between a stdio client and the server.

The page gives the bridge a token by `--token "Bearer …"`, which it does not take: `--token` is a switch there. It
reads the token from its environment, and asks the server's host for an authorization server unless told where one is.
"""

import os
import subprocess
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters
from servers import PORT, TOKEN

BRIDGE = str(Path(sys.executable).with_name("mcp-streamablehttp-client"))
URL = f"http://localhost:{PORT}/mcp"


async def test_conversation_over_stdio():
    bridge = StdioServerParameters(command=BRIDGE, args=["--log-level", "error"], env=os.environ | {
        "MCP_SERVER_URL": URL, "MCP_CLIENT_ACCESS_TOKEN": TOKEN, "OAUTH_TOKEN_URL": "not used: the token does not expire"})
    async with Client(bridge, mode="legacy") as client:
        async def call(name, **arguments):
            return (await client.call_tool(name, arguments)).structured_content

        assert "echo" in {tool.name for tool in (await client.list_tools()).tools}
        assert (await call("echo", message="through the bridge"))["message"] == "through the bridge"
        await call("set_session_data", key="k", value=[1, 2])
        assert (await call("get_session_data", key="k"))["value"] == [1, 2]
        info = await call("get_session_info")
        assert (info["request_count"], info["data_keys"]) == (3, ["k"])


def test_the_entry_as_printed_does_not_start():
    printed = ["--server-url", URL, "--token", "Bearer YOUR_TOKEN_HERE"]
    done = subprocess.run([BRIDGE, *printed], input="", capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "unexpected extra argument" in done.stderr
