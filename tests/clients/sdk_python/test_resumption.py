"""The official Python SDK loses its connections in the middle of a call, and gets everything all the same."""

import asyncio

import mcp_types as types
import pytest
from mcp import MCPError
from sdk import NO_SESSIONS, SESSIONS, BreakingWire, User, Wire, call, connect, say
from servers import FULL_PORT

TICKS = 6


async def test_a_stream_that_the_server_closes_is_picked_up_again():
    wire = Wire()
    async with connect(SESSIONS, wire=wire) as client:
        assert await say(client, "test_reconnection") == "The stream was closed and picked up again."
    assert sum("Last-Event-ID" in headers for headers in wire.sent) == 1


async def test_a_cut_connection_loses_nothing_and_doubles_nothing():
    seen, user = [], User()
    async with BreakingWire(FULL_PORT) as breaking:
        async def note(progress, total, message):
            seen.append(progress)
            if progress == 2:
                breaking.cut()

        async with connect(SESSIONS, user, port=breaking.port) as client:
            await client.set_logging_level("debug")
            ticks = {"count": TICKS, "interval_ms": 300}
            result = await client.call_tool("stream_ticks", ticks, progress_callback=note)
    assert result.structured_content["count"] == TICKS
    assert seen == list(range(1, TICKS + 1))
    assert [data["tick"] for _, data in user.logged] == seen
    assert b"last-event-id:" in breaking.requests.lower()


async def test_a_connection_is_cut_while_the_user_thinks():
    """The answer goes its own way to the server; what the tool makes of it comes on the stream that is resumed."""
    async with BreakingWire(FULL_PORT) as breaking:
        class Slow(User):
            async def elicit(self, context, params):
                breaking.cut()
                await asyncio.sleep(0.1)
                return await super().elicit(context, params)

        async with connect(SESSIONS, Slow(), port=breaking.port) as client:
            assert '"username":"Ada"' in await say(client, "test_elicitation", message="Who are you?")
    assert b"last-event-id:" in breaking.requests.lower()


async def test_without_sessions_a_cut_connection_is_a_call_given_up():
    seen = []
    async with BreakingWire(FULL_PORT) as breaking:
        async def note(progress, total, message):
            seen.append(progress)
            if progress == 2:
                breaking.cut()

        async with connect(NO_SESSIONS, port=breaking.port) as client:
            ticks = {"count": TICKS, "interval_ms": 500}
            with pytest.raises(MCPError) as lost:
                await client.call_tool("stream_ticks", ticks, progress_callback=note)
            assert lost.value.error.code == types.CONNECTION_CLOSED
            assert (await call(client, "echo", message="and on"))["message"] == "and on"
    # What was on its way may have come.
    assert seen[:2] == [1, 2] and len(seen) < TICKS
    assert b"last-event-id:" not in breaking.requests.lower()
