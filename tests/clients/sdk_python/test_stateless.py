"""What only the era without sessions has, with the official Python SDK: handles, mirrored headers, prompts that ask, tasks."""

import asyncio
from typing import Any, Literal

import mcp_types as types
import pytest
from mcp import MCPError
from mcp.client.extension import ClientExtension, ResultClaim
from sdk import NO_SESSIONS, PATIENCE, SESSIONS, Wire, call, connect, own_server, say


async def test_state_is_reached_by_a_handle_that_the_sdk_mirrors_for_proxies():
    wire = Wire()
    async with connect(NO_SESSIONS, wire=wire, instance=8) as client:
        await client.list_tools()
        handle = (await call(client, "create_session", label="mine"))["session"]
        for count in (1, 2):
            echoed = await call(client, "echo", message="hello", session=handle)
            assert (echoed["session_id"], echoed["request_count"]) == (handle, count)
        assert {headers.get("Mcp-Param-Session") for headers in wire.sent} == {None, handle}
        assert (await call(client, "echo", message="hello"))["session_id"] is None

        await call(client, "end_session", session=handle)
        refused = await client.call_tool("echo", {"message": "anyone?", "session": handle})
        assert refused.is_error and "create_session" in refused.content[0].text
    assert not any("Mcp-Session-Id" in headers for _, _, headers in wire.exchanges)


async def test_a_tool_that_was_never_listed_is_called_all_the_same():
    """Without the schema the SDK mirrors nothing; it is refused, lists the tools, and tries again."""
    wire = Wire()
    async with connect(NO_SESSIONS, wire=wire) as client:
        assert await say(client, "test_custom_header", value="Zoë: 1 < 2", count=3, flag=True) == "Zoë: 1 < 2"
    assert [status for _, status, _ in wire.exchanges] == [400, 200, 200]
    (mirrored,) = (headers for headers in wire.sent if "Mcp-Param-Value" in headers)
    assert mirrored["Mcp-Param-Value"].startswith("=?base64?")
    assert (mirrored["Mcp-Param-Count"], mirrored["Mcp-Param-Flag"]) == ("3", "true")


async def test_a_session_of_one_era_is_read_and_written_in_the_other():
    wire = Wire()
    async with connect(SESSIONS, wire=wire) as old, connect(NO_SESSIONS) as new:
        await new.list_tools()
        await call(old, "set_session_data", key="from", value="the old era")
        session = wire.session_id
        assert (await call(new, "get_session_data", key="from", session=session))["value"] == "the old era"
        await call(new, "set_session_data", key="from", value="the new era", session=session)
        assert (await call(old, "get_session_data", key="from"))["value"] == "the new era"


async def test_a_prompt_asks_its_user():
    async with connect(NO_SESSIONS) as client:
        prompt = await client.get_prompt("test_input_required_result_prompt")
        assert prompt.messages[0].content.text == "Use this context: Ada"


async def test_a_state_that_was_changed_on_the_way_is_refused():
    async with connect(NO_SESSIONS) as client:
        tool = "test_input_required_result_tampered_state"
        asked = await client.session.call_tool(tool, allow_input_required=True)
        assert isinstance(asked, types.InputRequiredResult)
        answers = {"confirm": types.ElicitResult(action="accept", content={"ok": True})}
        other = "BB" if asked.request_state.endswith("AA") else "AA"
        for state in (asked.request_state[:-2] + other, asked.request_state + "x", ""):
            with pytest.raises(MCPError) as refused:
                await client.call_tool(tool, input_responses=answers, request_state=state)
            assert refused.value.error.code == types.INVALID_PARAMS
        result = await client.call_tool(tool, input_responses=answers, request_state=asked.request_state)
        assert result.content[0].text == "state-ok"


async def test_a_server_that_stops_ends_a_subscription_well():
    async with own_server() as (server, port):
        async with connect(NO_SESSIONS, port=port) as client, client.listen(tools_list_changed=True) as changes:
            server.terminate()
            async with asyncio.timeout(PATIENCE):
                assert [change async for change in changes] == []
        assert await server.wait() == 0


class TaskParams(types.RequestParams):
    task_id: str


class TaskAnswers(TaskParams):
    input_responses: dict[str, Any]


class GetTask(types.Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    name_param = "taskId"
    params: TaskParams


class UpdateTask(types.Request[TaskAnswers, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    name_param = "taskId"
    params: TaskAnswers


class CancelTask(types.Request[TaskParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    name_param = "taskId"
    params: TaskParams


class TaskCreated(types.Result):
    result_type: Literal["task"]
    task_id: str


class TaskState(types.Result):
    status: str
    input_requests: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class Tasks(ClientExtension):
    """The tasks extension, which this SDK leaves to its users: polls, answers what is asked, and may give up."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, cancels=False):
        self.cancels = cancels
        self.statuses = []

    def claims(self):
        return [ResultClaim(result_type="task", model=TaskCreated, resolve=self.finish)]

    async def finish(self, created, context):
        session, params = context.session, TaskParams(task_id=created.task_id)
        if self.cancels:
            await session.send_request(CancelTask(params=params), types.Result)
        while True:
            task = await session.send_request(GetTask(params=params), TaskState)
            self.statuses.append(task.status)
            match task.status:
                case "working":
                    await asyncio.sleep(0.05)
                case "input_required":
                    answer = {"action": "accept", "content": {"confirm": True, "name": "Ada"}}
                    answers = TaskAnswers(task_id=created.task_id, input_responses=dict.fromkeys(task.input_requests, answer))
                    await session.send_request(UpdateTask(params=answers), types.Result)
                case "completed":
                    return types.CallToolResult.model_validate(task.result)
                case _:
                    return types.CallToolResult(content=[types.TextContent(text=str(task.error))], is_error=True)


async def test_tasks_run_ask_fail_and_are_cancelled():
    tasks, giving_up = Tasks(), Tasks(cancels=True)
    async with connect(NO_SESSIONS, extensions=[tasks]) as client:
        assert await say(client, "slow_compute", seconds=0.3) == "job took 0.3 seconds."
        assert tasks.statuses[0] == "working" and tasks.statuses[-1] == "completed"
        assert await say(client, "confirm_delete", filename="notes.txt") == "notes.txt was deleted."
        assert "input_required" in tasks.statuses
        assert await say(client, "multi_input") == "Got 2 answers."
        assert await say(client, "test_tool_with_task") == "Hello, Ada!"
        failed = await client.call_tool("protocol_error_job")
        assert failed.is_error and "-32603" in failed.content[0].text and tasks.statuses[-1] == "failed"
    async with connect(NO_SESSIONS, extensions=[giving_up]) as client:
        assert (await client.call_tool("slow_compute", {"seconds": 5})).is_error
        assert giving_up.statuses[-1] == "cancelled"


async def test_a_client_without_tasks_waits_instead_or_is_refused():
    async with connect(NO_SESSIONS) as client:
        assert await say(client, "slow_compute", seconds=0.1) == "job took 0.1 seconds."
        with pytest.raises(MCPError) as refused:
            await client.call_tool("confirm_delete", {"filename": "notes.txt"})
        assert refused.value.error.code == types.MISSING_REQUIRED_CLIENT_CAPABILITY
