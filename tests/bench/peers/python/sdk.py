"""An echo on the official Python SDK, stateful, answering in JSON: sdk.py PORT"""

import sys

import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("peer", log_level="ERROR")


@server.tool(structured_output=False)
def echo(message: str) -> str:
    return message


# As many sessions as are asked for, and none of them too old.
app = server.streamable_http_app(json_response=True, max_sessions=None, session_idle_timeout=None)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, timeout_keep_alive=3600)
