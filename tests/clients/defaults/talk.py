"""One client in its default settings: talk.py CLIENT URL, or talk.py bridge MODE COMMAND….

Prints the names of the tools that the client finds. Then, for each line of its input, [TOOL, ARGUMENTS], one line with what
the client's user gets: {"failed": …, "said": …}.
"""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager


def text(result):
    """What an MCP result says, for clients that hand it out as it came."""
    failed = result.is_error if hasattr(result, "is_error") else result.isError
    return answer(result.content[0].text, failed)


def answer(said, failed=False):
    return {"failed": failed, "said": said if isinstance(said, str) else json.dumps(said)}


# Each yields the tools' names, and a function that calls one of them.


@asynccontextmanager
async def mcp(url):
    from mcp import Client

    async with Client(url) as client:
        yield [tool.name for tool in (await client.list_tools()).tools], lambda *call: done(client.call_tool(*call))


@asynccontextmanager
async def bridge(mode, *command):
    """A program that speaks to its client by stdio, as desktops start it. The client is the SDK's, in this mode."""
    from mcp import Client, StdioServerParameters

    program = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    async with Client(program, mode=mode) as client:
        yield [tool.name for tool in (await client.list_tools()).tools], lambda *call: done(client.call_tool(*call))


async def done(call):
    return text(await call)


@asynccontextmanager
async def fastmcp(url):
    from fastmcp import Client

    async with Client(url) as client:
        yield [tool.name for tool in await client.list_tools()], lambda *call: done(client.call_tool(*call))


@asynccontextmanager
async def pydantic_ai(url):
    from pydantic_ai.mcp import MCPToolset

    async with MCPToolset(url) as tools:
        async def call(*call):
            return answer(await tools.direct_call_tool(*call))

        yield [tool.name for tool in await tools.list_tools()], call


@asynccontextmanager
async def openai_agents(url):
    from agents.mcp import MCPServerStreamableHttp

    async with MCPServerStreamableHttp({"url": url}) as server:
        yield [tool.name for tool in await server.list_tools()], lambda *call: done(server.call_tool(*call))


@asynccontextmanager
async def mcp_use(url):
    from mcp_use import MCPClient

    client = MCPClient({"mcpServers": {"echo": {"url": url}}})
    session = await client.create_session("echo")
    yield [tool.name for tool in await session.list_tools()], lambda *call: done(session.call_tool(*call))
    await client.close_all_sessions()


def langchain(tools):
    tools = {tool.name: tool for tool in tools}

    async def call(name, arguments):
        return answer((await tools[name].ainvoke(arguments))[0]["text"])

    return list(tools), call


@asynccontextmanager
async def langchain_tools(url):
    """As its page begins: each call has a session of its own."""
    from langchain_mcp_adapters.client import MultiServerMCPClient

    client = MultiServerMCPClient({"echo": {"url": url, "transport": "streamable_http"}})
    yield langchain(await client.get_tools())


@asynccontextmanager
async def langchain_session(url):
    """As its page goes on: "stateful"."""
    from langchain_mcp_adapters.client import MultiServerMCPClient
    from langchain_mcp_adapters.tools import load_mcp_tools

    client = MultiServerMCPClient({"echo": {"url": url, "transport": "streamable_http"}})
    async with client.session("echo") as session:
        yield langchain(await load_mcp_tools(session))


async def main(client, *arguments):
    async with AsyncExitStack() as stack:
        names, call = await stack.enter_async_context(globals()[client](*arguments))
        print(json.dumps(names), file=answers, flush=True)
        for line in sys.stdin:
            try:
                said = await call(*json.loads(line))
            except Exception as error:  # how most of them tell that a tool has failed
                said = answer(str(error), failed=True)
            print(json.dumps(said), file=answers, flush=True)


# Some log to their standard output.
answers, sys.stdout = sys.stdout, sys.stderr
asyncio.run(main(*sys.argv[1:]))
