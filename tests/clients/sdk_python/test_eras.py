"""What the official Python SDK can do, tried in both eras: with sessions, and with every request for itself.

A tool that asks its client sends a request in the one and answers `input_required` in the other; the SDK's user and the
tool see no difference, so neither do these tests.
"""

import asyncio
import time

import anyio
import mcp_types as types
import pytest
from mcp import MCPError
from sdk import NO_SESSIONS, SESSIONS, User, Wire, call, connect, say, url
from servers import ALONE, SESSIONED, STATELESS

either_era = pytest.mark.parametrize("mode", [SESSIONS, NO_SESSIONS])


@either_era
@pytest.mark.parametrize("tool, arguments, fields", [
    ("test_elicitation", {"message": "Who are you?"}, {"username": "Ada", "email": "ada@example.com"}),
    ("test_elicitation_sep1034_defaults", {},
     {"name": "John Doe", "age": 30, "score": 95.5, "status": "active", "verified": True}),
    ("test_elicitation_sep1330_enums", {},
     {"untitledSingle": "option1", "titledSingle": "value1", "legacyEnum": "opt1", "untitledMulti": ["option1"],
      "titledMulti": ["value1"]}),
])
async def test_the_user_fills_in_a_form(mode, tool, arguments, fields):
    user = User()
    async with connect(mode, user) as client:
        answer = await say(client, tool, **arguments)
    (form,) = user.asked
    assert form.message == arguments.get("message", form.message)
    assert types.ElicitResult.model_validate_json(answer.removeprefix("User response: ")).content == fields


@either_era
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_the_user_refuses(mode, action):
    async with connect(mode, User(action)) as client:
        assert f'"action":"{action}"' in await say(client, "test_elicitation", message="Who are you?")
        assert action in await say(client, "test_input_required_result_elicitation")


@either_era
async def test_the_user_opens_a_page(mode):
    user = User()
    async with connect(mode, user) as client:
        assert '"action":"accept"' in await say(client, "test_elicitation_url")
    assert [page.url for page in user.asked] == ["https://example.com/consent"]


@either_era
async def test_the_model_and_the_roots_are_asked(mode):
    async with connect(mode) as client:
        assert await say(client, "test_sampling", prompt="2 + 2?") == "LLM response: an answer to: 2 + 2?"
        assert await say(client, "test_list_roots") == "1 roots: file:///home/ada"
        assert await say(client, "test_input_required_result_multiple_inputs") == (
            "Ada: an answer to: Write a short greeting.; 1 roots: file:///home/ada")


@either_era
async def test_a_tool_asks_twice_and_keeps_its_state(mode):
    user = User()
    async with connect(mode, user) as client:
        assert await say(client, "test_input_required_result_multi_round") == "Ada likes Ada."
        assert await say(client, "test_input_required_result_request_state") == "state-ok"
    assert [form.message for form in user.asked] == [
        "What is your name?", "What is your favourite colour?", "Please confirm"]


@either_era
async def test_a_client_that_cannot_answer_is_not_asked(mode):
    async with Wire().connect(url(), mode) as client:
        if mode == SESSIONS:
            result = await client.call_tool("test_sampling", {"prompt": "anyone?"})
            assert result.is_error and "sampling" in result.content[0].text
        else:
            with pytest.raises(MCPError) as refused:
                await client.call_tool("test_sampling", {"prompt": "anyone?"})
            assert refused.value.error.code == types.MISSING_REQUIRED_CLIENT_CAPABILITY
            assert refused.value.error.data == {"requiredCapabilities": {"sampling": {}}}
        assert (await call(client, "echo", message="still here"))["message"] == "still here"


@either_era
async def test_progress_arrives_as_it_is_made(mode):
    steps = []

    async def note(progress, total, message):
        steps.append((time.monotonic(), progress, total, message))

    async with connect(mode) as client:
        await client.call_tool("test_tool_with_progress", progress_callback=note)
        assert [step[1:] for step in steps] == [(n, 100, "working") for n in (0, 50, 100)]

        steps.clear()
        result = await client.call_tool("stream_ticks", {"count": 4, "interval_ms": 400}, progress_callback=note)
    assert result.structured_content["streamed"] is True
    assert [step[1:3] for step in steps] == [(n, 4) for n in (1, 2, 3, 4)]
    # Together at the end would mean that something on the way had kept them.
    assert steps[-1][0] - steps[0][0] > 0.2


async def test_log_messages_come_from_the_level_that_the_session_set():
    user = User()
    async with connect(SESSIONS, user) as client:
        await client.set_logging_level("warning")
        await say(client, "test_tool_with_logging")
        assert user.logged == []
        await client.set_logging_level("info")
        await say(client, "test_tool_with_logging")
        assert len(user.logged) == 3 and {level for level, _ in user.logged} == {"info"}


@pytest.mark.parametrize("level, messages", [(None, 0), ("error", 0), ("info", 3), ("debug", 3)])
async def test_log_messages_come_from_the_level_that_the_request_names(level, messages):
    user = User()
    async with connect(NO_SESSIONS, user, log_level=level) as client:
        await say(client, "test_tool_with_logging")
    assert len(user.logged) == messages


@either_era
async def test_everything_listed_can_be_read(mode):
    async with connect(mode) as client:
        resources = {resource.uri: resource for resource in (await client.list_resources()).resources}
        assert {"echo://server", "echo://pixel.png", "test://static-text"} <= resources.keys()
        for uri, resource in resources.items():
            (contents,) = (await client.read_resource(uri)).contents
            assert contents.mime_type == resource.mime_type
            assert isinstance(contents, types.BlobResourceContents) == resource.mime_type.startswith("image/")

        templates = (await client.list_resource_templates()).resource_templates
        assert "test://template/{id}/data" in {template.uri_template for template in templates}
        (contents,) = (await client.read_resource("test://template/42/data")).contents
        assert "Data for ID: 42" in contents.text

        with pytest.raises(MCPError) as unknown:
            await client.read_resource("test://nothing-here")
        assert unknown.value.error.code == (-32002 if mode == SESSIONS else types.INVALID_PARAMS)


@either_era
async def test_prompts_are_filled_in(mode):
    async with connect(mode) as client:
        prompts = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert {argument.name for argument in prompts["test_prompt_with_arguments"].arguments} == {"arg1", "arg2"}
        filled = await client.get_prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"})
        assert filled.messages[0].content.text == "Prompt with arguments: arg1='one', arg2='two'"
        embedded = await client.get_prompt("test_prompt_with_embedded_resource", {"resourceUri": "test://x"})
        assert embedded.messages[0].content.resource.uri == "test://x"
        assert (await client.get_prompt("test_prompt_with_image")).messages[0].content.type == "image"

        with pytest.raises(MCPError) as missing:
            await client.get_prompt("test_prompt_with_arguments", {"arg1": "one"})
        assert missing.value.error.code == types.INVALID_PARAMS


@either_era
async def test_arguments_are_completed(mode):
    async with connect(mode) as client:
        prompt = types.PromptReference(name="test_prompt_with_arguments")
        completed = await client.complete(prompt, {"name": "arg1", "value": "testi"})
        assert completed.completion.values == ["testing"]


@either_era
async def test_a_changed_value_is_told_to_who_asked(mode):
    user, wire = User(), Wire()
    async with connect(mode, user, wire) as client:
        await client.list_tools()
        if mode == SESSIONS:
            await wire.listening()
            handle, session = wire.session_id, {}
        else:
            handle = (await call(client, "create_session"))["session"]
            session = {"session": handle}
        uri = f"session://{handle}/data/colour"

        async def store(value):
            await call(client, "set_session_data", key="colour", value=value, **session)

        if mode == SESSIONS:
            await client.subscribe_resource(uri)
            await store("blue")
            assert (await user.next(types.ResourceUpdatedNotification)).params.uri == uri
        else:
            async with client.listen(resource_subscriptions=[uri], tools_list_changed=True) as changes:
                assert changes.honored.resource_subscriptions == [uri] and changes.honored.tools_list_changed
                await store("blue")
                with anyio.fail_after(10):
                    assert (await anext(changes)).uri == uri
                    await say(client, "test_trigger_tool_change")
                    assert type(await anext(changes)).__name__ == "ToolsListChanged"
        (contents,) = (await client.read_resource(uri)).contents
        assert contents.text == '"blue"'

        if mode == SESSIONS:
            await client.unsubscribe_resource(uri)
            await store("red")
            # What comes first now is of another kind.
            await say(client, "test_trigger_tool_change")
            while not isinstance(told := await user.next(object), types.ToolListChangedNotification):
                assert not isinstance(told, types.ResourceUpdatedNotification)


@either_era
async def test_a_cancelled_call_is_given_up(mode):
    wire = Wire()
    async with connect(mode, wire=wire) as client:
        await client.list_tools()
        session = {}
        if mode != SESSIONS:
            session = {"session": (await call(client, "create_session"))["session"]}
        await call(client, "echo", message="before", **session)
        with anyio.move_on_after(0.3):
            await client.call_tool("echo", {"message": "never", "delay": 1, **session})
            raise AssertionError("an answer before its time")
        await asyncio.sleep(1)
        # What was given up is not counted and left nothing to replay.
        assert (await call(client, "get_session_info", **session))["request_count"] == 1
        assert (await call(client, "replayLastEcho", **session))["message"] == "before"


@pytest.mark.parametrize("instance, revision", ALONE.items())
async def test_each_revision_is_agreed_on_where_it_alone_is_served(instance, revision):
    async with connect("auto", instance=instance) as client:
        assert client.protocol_version == revision
        assert (await call(client, "echo", message=revision))["message"] == revision
        assert await say(client, "test_sampling", prompt="?") == "LLM response: an answer to: ?"


async def test_the_newest_common_revision_is_found():
    for instance, revision in [(0, "2026-07-28"), (SESSIONED, "2025-11-25"), (STATELESS, "2026-07-28")]:
        wire = Wire()
        async with connect("auto", wire=wire, instance=instance) as client:
            assert client.protocol_version == revision
            assert client.server_info.name == "mcp-echo-streamablehttp-stateful"
            assert (await call(client, "echo", message="hello"))["message"] == "hello"
        sessions = [headers for _, _, headers in wire.exchanges if "Mcp-Session-Id" in headers]
        assert bool(sessions) == (revision == "2025-11-25")


async def test_a_client_of_the_other_era_is_told_which_revisions_are_served():
    with pytest.RaisesGroup(MCPError, flatten_subgroups=True) as refused:
        async with connect(SESSIONS, instance=STATELESS):
            pass
    error = refused.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert error.error.code == types.UNSUPPORTED_PROTOCOL_VERSION
    assert error.error.data == {"requested": "2025-11-25", "supported": ["2026-07-28"]}

    async with connect(NO_SESSIONS, instance=SESSIONED) as client:
        with pytest.raises(MCPError) as refused:
            await client.list_tools()
    # As a server that has never heard of the other era would, so that a client that knows both falls back.
    assert refused.value.error.code == -32000 and "2025-11-25" in refused.value.error.message
