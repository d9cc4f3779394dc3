"""The official Python SDK holds whole conversations with several instances, from initialize to the end of the session."""

import httpx2
import pytest
from mcp import Client, MCPError
from sdk import Wire, call
from servers import ask, base_url, refusal

PAGE_TOOLS = {"echo", "set_session_data", "get_session_data", "get_session_info"}


@pytest.mark.parametrize("domain", ["localhost", "example.com"])
@pytest.mark.parametrize("instance", [0, 3, 9])
async def test_conversation(instance, domain):
    url, wire = base_url(instance, domain), Wire()
    async with wire.connect(url) as client:
        assert client.protocol_version == "2025-11-25"
        assert client.server_info.name == "mcp-echo-streamablehttp-stateful"

        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert PAGE_TOOLS <= tools.keys()
        for tool in tools.values():
            assert tool.title and tool.description and tool.input_schema and tool.output_schema and tool.annotations

        assert (await call(client, "echo", message="hello"))["message"] == "hello"
        await call(client, "set_session_data", key="user", value={"theme": "dark", "tries": [1, 2.5, None]})
        got = await call(client, "get_session_data", key="user")
        assert got["value"] == {"theme": "dark", "tries": [1, 2.5, None]}

        info = await call(client, "get_session_info")
        assert info["session_id"] == wire.session_id
        assert info["request_count"] == 3
        assert info["data_keys"] == ["user"]
        assert info["minted_by"]["instance"] == info["served_by"]["instance"] == instance
        assert info["protocol_version"] == "2025-11-25"

    # Leaving the SDK's client ends the session: DELETE, and from then on 404.
    seen = {(method, status) for method, status, _ in wire.exchanges}
    assert seen - {("GET", 200)} == {("POST", 200), ("POST", 202), ("DELETE", 204)}
    assert wire.one("Mcp-Echo-Instance") == str(instance)
    assert refusal(ask(url, wire.session_id)) == "terminated"


async def test_a_session_ended_under_the_client_is_an_error_that_says_so():
    url, wire = base_url(3), Wire()
    async with wire.connect(url) as client:
        await call(client, "echo", message="still here")
        ended = httpx2.delete(f"{url}/mcp", headers={"Mcp-Session-Id": wire.session_id})
        assert ended.status_code == 204
        with pytest.raises(MCPError) as error:
            await client.call_tool("echo", {"message": "and now?"})
        assert error.value.error.data["reason"] == "terminated"


async def test_the_default_mode_of_the_sdk_connects():
    """It asks for a newer revision first and falls back: the question alone may not break or open anything."""
    async with Client(f"{base_url(5)}/mcp") as client:
        assert PAGE_TOOLS <= {tool.name for tool in (await client.list_tools()).tools}
        assert (await call(client, "echo", message="found a common version"))["message"] == "found a common version"


async def test_data_of_one_instance_is_not_seen_on_another():
    three, four = Wire(), Wire()
    async with three.connect(base_url(3)) as on_three, four.connect(base_url(4)) as on_four:
        await call(on_three, "set_session_data", key="shared", value="of three")
        assert (await call(on_four, "get_session_data", key="shared"))["found"] is False

        await call(on_four, "set_session_data", key="shared", value="of four")
        assert (await call(on_three, "get_session_data", key="shared"))["value"] == "of three"
        assert (await call(on_four, "get_session_data", key="shared"))["value"] == "of four"

        # The same id at the other's host names no session there, and goes on living at its own.
        assert refusal(ask(base_url(4), three.session_id)) == "other_instance"
        assert refusal(ask(base_url(3), four.session_id)) == "other_instance"
        assert (await call(on_three, "get_session_info"))["session_id"] == three.session_id
