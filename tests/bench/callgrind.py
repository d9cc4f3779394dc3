"""The client that drives a server under callgrind: requests as bytes, one kept connection, one port."""

import json
import re
import socket
import time

HOST = "echo-stateful0.localhost"


def message(method, params, id=None):
    body = {"jsonrpc": "2.0", "method": method, "params": params}
    if id is not None:
        body["id"] = id
    return json.dumps(body, separators=(",", ":"))


def request(body, session=None, accept="application/json, text/event-stream", host=HOST, **headers):
    lines = [
        "POST /mcp HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Accept: {accept}",
        f"Content-Length: {len(body)}",
    ]
    if session:
        lines += [f"Mcp-Session-Id: {session}", "MCP-Protocol-Version: 2025-06-18"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


INITIALIZE = message(
    "initialize",
    {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
    0,
)
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Client:
    """One kept connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.buffer = b""

    def call(self, raw):
        self.socket.sendall(raw)
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, body = self.rest()
        return int(head[9:12]), head.decode(), body.decode()

    def more(self):
        part = self.socket.recv(65536)
        if not part:
            raise SystemExit("the server closed the connection")
        self.buffer += part

    def once(self, raw):
        """Sends a request on a connection of its own and reads the answer, or the beginning of one that is a stream."""
        other = Client(self.socket.getpeername()[1])
        other.socket.sendall(raw)
        while b"\r\n\r\n" not in other.buffer:
            other.more()
        if b"chunked" in other.buffer.partition(b"\r\n\r\n")[0].lower():
            while not other.buffer.partition(b"\r\n\r\n")[2]:
                other.more()
        elif b"content-length" in other.buffer.lower():
            other.rest()
        other.socket.close()

    def rest(self):
        """The body of the answer whose head has come; what comes after stays."""
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
        while len(rest) < length:
            self.more()
            rest = self.buffer.partition(b"\r\n\r\n")[2]
        self.buffer = rest[length:]
        return head, rest[:length]

    def session(self):
        status, head, _ = self.call(request(INITIALIZE))
        assert status == 200, head
        session = re.search(r"(?i)mcp-session-id: (\S+)", head).group(1)
        status, head, _ = self.call(request(message("notifications/initialized", {}), session))
        assert status == 202, head
        return session


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(port, server):
    for _ in range(600):
        try:
            return Client(port)
        except OSError:
            if server.poll() is not None:
                raise SystemExit(f"the server did not start: {server.stderr.read().decode()}")
            time.sleep(0.1)
    raise SystemExit("the server did not start within a minute")
