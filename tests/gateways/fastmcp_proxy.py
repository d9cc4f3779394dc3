"""FastMCP's two proxies, as its manual shows them: fastmcp_proxy.py create|stateful URL PORT."""

import sys

from fastmcp.server import create_proxy
from fastmcp.server.providers.proxy import FastMCPProxy, StatefulProxyClient

kind, url, port = sys.argv[1:]
if kind == "create":
    proxy = create_proxy(url)
else:
    proxy = FastMCPProxy(client_factory=StatefulProxyClient(url).new_stateful)
proxy.run(transport="http", port=int(port), show_banner=False)
