"""Clients of today in their default settings, none of them written for this server, given a URL and nothing else.

Each finds the tools, echoes, stores and reads at instance 3. What becomes of the state depends on the client: see KEPT and
the others.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from servers import PORT, SESSIONS_PORT

# The client has a session, which keeps what it stores.
KEPT = "kept"
# It speaks 2026-07-28, where there are no sessions: the first answer hands it a handle, and what needs one says so.
TOLD = "told"
# It passes such a client's calls on without the header that mirrors the handle, so they must be refused, by name.
UNMIRRORED = "unmirrored"
# Each of its calls begins a session, as the look-up in an empty one says, and what to do about it.
ANEW = "anew"

HERE = Path(__file__).parent
NODE = HERE.parent / "node"
BIN = NODE / "node_modules/.bin"
TALK = str(HERE / "talk.py")
BRIDGE = [sys.executable, TALK, "bridge"]
# Claude Desktop and its like open a session through what they start.
DESKTOP = [*BRIDGE, "legacy"]


class Talk:
    """A conversation with a client that talk.py or talk.js drives."""

    def __init__(self, command, home):
        # Of the caller's environment no more than a program needs; what would call home is told not to.
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "DO_NOT_TRACK": "1", "MCP_USE_ANONYMIZED_TELEMETRY": "false",
               "NO_PROXY": "*", "SSL_CERT_DIR": os.environ["SSL_CERT_DIR"],
               # What mcp-streamablehttp-client demands: the URL, though it is given by option as well, and a token, or it
               # goes and looks for one.
               "MCP_SERVER_URL": command[-1], "MCP_CLIENT_ACCESS_TOKEN": "a-token", "OAUTH_TOKEN_URL": "not used"}
        self.errors = home / "stderr"
        self.process = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors.open("w"))
        self.patience = threading.Timer(60, self.process.kill)
        self.patience.start()

    def __enter__(self):
        self.names = self.read()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.patience.cancel()

    def read(self):
        line = self.process.stdout.readline()
        assert line, f"the client has ended: {self.errors.read_text()}"
        return json.loads(line)

    def call(self, name, **arguments):
        """Whether the call has failed, and what the client's user was told."""
        print(json.dumps([name, arguments]), file=self.process.stdin, flush=True)
        answer = self.read()
        return answer["failed"], answer["said"]


class Inspector:
    """One command for each call."""

    def __init__(self, command, home):
        *self.command, self.url = command
        self.home = home

    def __enter__(self):
        self.names = [tool["name"] for tool in self.run("tools/list")["tools"]]
        return self

    def __exit__(self, *_):
        pass

    def run(self, method, *options):
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "NO_PROXY": "*"}
        done = subprocess.run([*self.command, self.url, "--method", method, *options], env=env, capture_output=True,
                              text=True, timeout=60)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def call(self, name, **arguments):
        pairs = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in arguments.items()]
        result = self.run("tools/call", "--tool-name", name, *(option for pair in pairs for option in ("--tool-arg", pair)))
        return result.get("isError", False), result["content"][0]["text"]


V1 = os.environ["CLIENTS_V1_PYTHON"]
# How each is started, and what becomes of its state.
CLIENTS = {
    "mcp": (Talk, [sys.executable, TALK, "mcp"], TOLD),
    "FastMCP": (Talk, [sys.executable, TALK, "fastmcp"], TOLD),
    "pydantic-ai": (Talk, [sys.executable, TALK, "pydantic_ai"], TOLD),
    "openai-agents": (Talk, [sys.executable, TALK, "openai_agents"], TOLD),
    "@ai-sdk/mcp": (Talk, ["node", str(NODE / "talk.js"), "ai_sdk"], TOLD),
    "@mastra/mcp": (Talk, ["node", str(NODE / "talk.js"), "mastra"], TOLD),
    "Inspector CLI": (Inspector, [str(BIN / "mcp-inspector"), "--cli"], ANEW),
    "mcp-remote": (Talk, [*DESKTOP, str(BIN / "mcp-remote")], KEPT),
    "mcp-remote, client of 2026-07-28": (Talk, [*BRIDGE, "auto", str(BIN / "mcp-remote")], UNMIRRORED),
    "mcp-streamablehttp-client": (
        Talk, [*DESKTOP, str(Path(sys.executable).with_name("mcp-streamablehttp-client")), "--log-level", "error", "--server-url"], KEPT),
    "mcp-use": (Talk, [V1, TALK, "mcp_use"], KEPT),
    "langchain-mcp-adapters, get_tools()": (Talk, [V1, TALK, "langchain_tools"], ANEW),
    "langchain-mcp-adapters, session()": (Talk, [V1, TALK, "langchain_session"], KEPT),
}


def converse(how, command, state, url, home):
    with how([*command, url], home) as client:
        def ask(name, **arguments):
            failed, said = client.call(name, **arguments)
            assert not failed, said
            return json.loads(said)

        assert {"echo", "set_session_data", "get_session_data"} <= set(client.names)
        failed, said = client.call("echo", message="from a client of today")
        assert not failed and "from a client of today" in said

        stored = ask("set_session_data", key="k", value=[1, 2])
        assert stored["stored"] is True
        if state == KEPT:
            assert ask("get_session_data", key="k")["value"] == [1, 2]
            assert ask("get_session_info")["minted_by"]["instance"] == 3
        elif state == TOLD:
            # A model has the answers to go on, and nothing else.
            failed, said = client.call("get_session_data", key="k")
            assert failed and '"session"' in said and "sessioned" in said, said
            handle = stored["session"]
            assert handle.startswith("3")
            assert ask("get_session_data", key="k", session=handle)["value"] == [1, 2]
        elif state == UNMIRRORED:
            failed, said = client.call("get_session_data", key="k", session=stored["session"])
            assert failed and "Mcp-Param-Session header is missing" in said, said
        else:
            found = ask("get_session_data", key="k")
            assert found["found"] is False
            assert "create_session" in found["note"], found
            handle = ask("create_session")["session"]
            assert handle.startswith("3")
            ask("set_session_data", key="k", value=[1, 2], session=handle)
            assert ask("get_session_data", key="k", session=handle)["value"] == [1, 2]


@pytest.mark.parametrize("client", CLIENTS)
def test_state_is_kept_or_the_answer_says_how(client, tmp_path):
    how, command, state = CLIENTS[client]
    converse(how, command, state, f"http://127.0.0.1:{PORT}/echo-stateful3/mcp", tmp_path)


@pytest.mark.parametrize("client", [client for client, (*_, state) in CLIENTS.items() if state in (TOLD, UNMIRRORED)])
def test_with_the_profile_of_that_name_it_is_kept_in_a_session(client, tmp_path):
    how, command, _ = CLIENTS[client]
    converse(how, command, KEPT, f"http://127.0.0.1:{SESSIONS_PORT}/echo-stateful3/mcp", tmp_path)
