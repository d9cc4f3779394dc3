"""What the tests of the official Python SDK share: a view of the wire, a user who answers, a wire that breaks."""

import asyncio
import os
import re
from contextlib import asynccontextmanager

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from servers import FULL_PORT, base_url

# Modes of the SDK's client: initialize first, or every request for itself.
SESSIONS, NO_SESSIONS = "legacy", "2026-07-28"

PATIENCE = 10


class Wire:
    """What goes over the wire under one SDK client: enough to know its session and how that ended."""

    def __init__(self):
        self.exchanges = []
        self.sent = []

    async def note(self, response):
        self.exchanges.append((response.request.method, response.status_code, response.headers))
        self.sent.append(response.request.headers)

    def one(self, header):
        """The value of a header that may come with many answers, but always with the same value."""
        (value,) = {headers[header] for _, _, headers in self.exchanges if header in headers}
        return value

    @property
    def session_id(self):
        return self.one("Mcp-Session-Id")

    async def listening(self):
        """Waits for the stream on which the server may speak first: what it says before that is lost."""
        async with asyncio.timeout(PATIENCE):
            while not any((method, status) == ("GET", 200) for method, status, _ in self.exchanges):
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def connect(self, url, mode=SESSIONS, **options):
        async with httpx2.AsyncClient(timeout=30, event_hooks={"response": [self.note]}) as http:
            async with Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, **options) as client:
                yield client


class User:
    """Answers what the server asks, and notes what it asked and told."""

    def __init__(self, action="accept"):
        self.action = action
        self.asked = []
        self.logged = []
        self.told = asyncio.Queue()

    def options(self):
        return {"elicitation_callback": self.elicit, "sampling_callback": self.sample,
                "list_roots_callback": self.roots, "logging_callback": self.log, "message_handler": self.tell}

    async def elicit(self, _, params):
        self.asked.append(params)
        if self.action != "accept" or params.mode == "url":
            return types.ElicitResult(action=self.action)
        return types.ElicitResult(action="accept", content={
            name: fill(schema) for name, schema in params.requested_schema["properties"].items()})

    async def sample(self, _, params):
        self.asked.append(params)
        text = f"an answer to: {params.messages[0].content.text}"
        return types.CreateMessageResult(role="assistant", model="a-model", content=types.TextContent(text=text))

    async def roots(self, _):
        self.asked.append("roots")
        return types.ListRootsResult(roots=[types.Root(uri="file:///home/ada", name="home")])

    async def log(self, params):
        self.logged.append((params.level, params.data))

    async def tell(self, message):
        self.told.put_nowait(message)

    async def next(self, kind):
        """The next notification of a kind."""
        async with asyncio.timeout(PATIENCE):
            while not isinstance(message := await self.told.get(), kind):
                pass
        return message


def fill(schema):
    """Something that fits a field of a form."""
    choices = schema.get("items", schema)
    first = next(iter(choices.get("enum") or [c["const"] for c in choices.get("oneOf") or choices.get("anyOf") or []]), None)
    if "default" in schema:
        return schema["default"]
    if first is not None:
        return [first] if schema["type"] == "array" else first
    if schema["type"] == "boolean":
        return True
    return "ada@example.com" if schema.get("format") == "email" else "Ada"


def url(instance=0, port=FULL_PORT):
    return base_url(instance, "localhost", port)


def connect(mode, user=None, wire=None, instance=0, port=FULL_PORT, **options):
    """A client of the server that can ask for everything, with a user who answers."""
    return (wire or Wire()).connect(url(instance, port), mode, **(user or User()).options(), **options)


@asynccontextmanager
async def own_server():
    """A server that a test may stop, and its port."""
    environment = {"HOST": "127.0.0.1", "PORT": "0"}
    server = await asyncio.create_subprocess_exec(os.environ["ECHO_BINARY"], env=environment, stdout=asyncio.subprocess.PIPE)
    first = await server.stdout.readline()
    try:
        yield server, int(re.search(rb"address=\S+:(\d+)", first)[1])
    finally:
        if server.returncode is None:
            server.kill()
        await server.communicate()


class BreakingWire:
    """A way to the server on which every connection can be cut, as when a cable is pulled."""

    def __init__(self, port):
        self.server_port = port
        self.open = set()
        self.carrying = set()
        self.requests = b""

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        self.cut()
        await asyncio.gather(*self.carrying)

    def cut(self):
        for writer in self.open:
            writer.transport.abort()

    async def carry(self, reader, writer):
        self.carrying.add(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self.server_port)
        self.open |= {writer, back}

        async def copy(source, sink, note=lambda piece: None):
            while piece := await source.read(65536):
                note(piece)
                sink.write(piece)
                await sink.drain()
            sink.transport.abort()

        def note(piece):
            self.requests += piece

        await asyncio.gather(copy(reader, back, note), copy(there, writer), return_exceptions=True)
        self.open -= {writer, back}


async def call(client, name, **arguments):
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result
    return result.structured_content


async def say(client, name, **arguments):
    """The text of a call that must succeed."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result
    return result.content[0].text
