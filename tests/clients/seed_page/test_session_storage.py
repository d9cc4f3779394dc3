"""The page's storage example, its pytest fixture and its four tool calls: stored values come back, and are listed."""

import json
import os
from pathlib import Path

import httpx
import pytest
from servers import TOKEN as token
from servers import base_url
from stateful_echo_client import StatefulEchoClient

TOOL_CALLS = json.loads(Path(__file__).with_name("tool_calls.json").read_text())


async def test_session_storage():
    client = StatefulEchoClient(base_url(), token)
    initialized = await client.initialize()
    assert initialized["result"]["protocolVersion"] == "2025-06-18"

    # Store user preferences
    await client.call_tool("set_session_data", {
        "key": "preferences",
        "value": {
            "notifications": True,
            "email_frequency": "daily",
            "timezone": "UTC"
        }
    })

    # Store user progress
    await client.call_tool("set_session_data", {
        "key": "progress",
        "value": {
            "current_step": 5,
            "completed_steps": [1, 2, 3, 4],
            "total_steps": 10
        }
    })

    # Retrieve all session data
    all_data = await client.call_tool("get_session_data", {})
    assert all_data["data"] == {
        "preferences": {"notifications": True, "email_frequency": "daily", "timezone": "UTC"},
        "progress": {"current_step": 5, "completed_steps": [1, 2, 3, 4], "total_steps": 10},
    }
    assert sorted(all_data["data_keys"]) == ["preferences", "progress"]

    # Retrieve specific data
    prefs = await client.call_tool("get_session_data", {
        "key": "preferences"
    })
    assert prefs == {"key": "preferences", "found": True, "value": all_data["data"]["preferences"]}


@pytest.fixture
async def echo_client():
    client = StatefulEchoClient(
        base_url(),
        os.getenv("TEST_TOKEN")
    )
    await client.initialize()
    yield client
    # Cleanup if needed


@pytest.mark.asyncio
async def test_session_persistence(echo_client):
    # Set data
    await echo_client.set_session_data("test_key", "test_value")

    # Retrieve data
    data = await echo_client.get_session_data("test_key")
    assert data == "test_value"

    # Check session info
    info = await echo_client.get_session_info()
    assert "test_key" in info["data_keys"]


async def test_echo_answers_with_the_message_itself(echo_client):
    answer = await echo_client.echo_with_state("Hello again")
    assert answer["result"]["content"] == [{"type": "text", "text": "Hello again"}]


def test_tool_calls_as_printed():
    """The four JSON bodies of the page, in its order and in one session that the first of them starts."""
    assert [call["params"]["name"] for call in TOOL_CALLS] == [
        "echo", "set_session_data", "get_session_data", "get_session_info"]

    headers, results = {}, []
    for call in TOOL_CALLS:
        response = httpx.post(f"{base_url()}/mcp", json=call, headers=headers)
        headers = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}
        assert response.json()["id"] == call["id"]
        results.append(response.json()["result"])

    echo, stored, got, info = [result["structuredContent"] for result in results]
    assert (echo["message"], echo["format"]) == ("Hello, stateful world!", "json")
    assert stored["stored"] is True
    assert got["value"] == {"theme": "dark", "language": "en"}
    assert info["data_keys"] == ["user_preference"]
    # "Returns: session ID, request count, session age, time until expiry, custom data keys".
    assert info["session_id"] == headers["Mcp-Session-Id"]
    assert info["request_count"] == 3
    assert info["age_seconds"] >= 0
    assert 299 <= info["expires_in_seconds"] <= 300
    # Whoever reads only text finds the same there.
    for result in results[1:]:
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
