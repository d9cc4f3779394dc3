"""The page's shell commands, run as printed: where they work they must work, where they are wrong they must fail clearly."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml
from servers import LOG_FILE, PORT, STRICT_LOG_FILE, STRICT_PORT, STRICT_SECRET, TOKEN, base_url

SHELL = Path(__file__).parent / "shell"


def run_script(name):
    """Run one of the page's scripts; returns what it printed and the HTTP statuses that its curls met."""
    done = subprocess.run(["bash", SHELL / name], env=os.environ | {"BASH_ENV": str(SHELL / "curl.bash")},
                          capture_output=True, text=True, timeout=30)
    return done.stdout, re.findall(r"status=(\d{3})", done.stderr)


def test_a_session_id_cut_out_with_its_carriage_return_is_refused():
    """A bare CR makes a header invalid (RFC 9112, 2.2), so the page's second request is no request."""
    _, statuses = run_script("session_persistence.sh")
    assert statuses == ["200", "400"]


def test_a_session_id_without_its_carriage_return_is_kept():
    printed, statuses = run_script("session_persistence_fixed.sh")
    assert statuses == ["200", "200"]
    info = json.loads(printed)["result"]["structuredContent"]
    # The first message was counted in the session that the second request asked about.
    assert info["request_count"] == 1


def test_the_two_forms_differ_by_the_carriage_return_alone():
    printed, fixed = [(SHELL / f"session_persistence{form}.sh").read_text() for form in ("", "_fixed")]
    assert "| tr -d '\\r'" in fixed
    assert fixed.replace(" | tr -d '\\r'", "") == printed


def test_multi_instance_loop():
    printed, statuses = run_script("multi_instance.sh")
    assert statuses == ["200", "200", "200"]
    for i in range(3):
        assert f"Testing echo-stateful{i}..." in printed
        assert f'"text":"Instance {i} test"' in printed
    # Each call started a session of its own, on the instance that its host names.
    ids = re.findall(r'"session_id":"([0-9a-f-]{36})"', printed)
    assert [id[0] for id in ids] == ["0", "1", "2"]


def test_debug_sessions():
    """What the operators of the page watch: the live sessions, behind the admin's token, with no id in full."""
    opened = httpx.post(f"{base_url()}/mcp", json={
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {},
                   "clientInfo": {"name": "seen-by-the-operator", "version": "1.0"}}})
    session_id = opened.headers["Mcp-Session-Id"]

    printed, statuses = run_script("debug_sessions.sh")
    assert statuses == ["200"], printed
    json.loads(printed)
    assert "seen-by-the-operator" in printed
    assert session_id not in printed

    nobody = httpx.get(f"{base_url()}/debug/sessions")
    assert nobody.status_code == 401


def health_check(port):
    """The page's container health check as compose would run it, from outside the container."""
    test = yaml.safe_load((SHELL / "healthcheck.yaml").read_text())["healthcheck"]["test"]
    assert test[:3] == ["CMD", "sh", "-c"]
    command = test[3].replace("localhost:3000", f"localhost:{port}")
    return subprocess.run(["sh", "-c", command], timeout=5).returncode


def test_health_check():
    assert health_check(PORT) == 0


def test_the_health_check_can_fail():
    nobody_listens_here = 1
    assert health_check(nobody_listens_here) != 0


def test_troubleshooting_one_liner():
    """It lacks jsonrpc and id: no JSON-RPC request, and the server says so."""
    body = '{"method": "tools/call", "params": {"name": "get_session_info"}}'
    done = subprocess.run(
        ["curl", "-s", "-w", "\n%{http_code}", "-X", "POST", f"http://localhost:{PORT}/mcp",
         "-H", "Content-Type: application/json", "-d", body],
        capture_output=True, text=True, timeout=10, check=True)
    answer, status = done.stdout.rsplit("\n", 1)
    assert status == "400"
    assert json.loads(answer)["error"]["code"] == -32600


def test_the_session_header_shows_in_a_verbose_curl():
    command = f"""curl -v -X POST http://localhost:{PORT}/mcp -H 'Content-Type: application/json' \\
        -d '{{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}}' 2>&1 | grep -i "mcp-session-id" """
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=10)
    assert re.search(r"^< mcp-session-id: 0[0-9a-f-]{35}", done.stdout, re.IGNORECASE | re.MULTILINE)


@pytest.mark.parametrize(
    ("port", "token", "log"),
    [(PORT, TOKEN, LOG_FILE), (STRICT_PORT, STRICT_SECRET, STRICT_LOG_FILE)],
    ids=["default level", "the page's debug mode"],
)
def test_log_lines_about_sessions_are_found_by_grep(port, token, log):
    """The log file was asked for in a directory that did not exist. It names no session in full, and no token."""
    response = httpx.post(f"{base_url(port=port)}/mcp", headers={"Authorization": f"Bearer {token}"},
                          json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    session_id = response.headers["Mcp-Session-Id"]

    def grep():
        return subprocess.run(["grep", "-E", "(session|state)", log], capture_output=True, text=True).stdout

    for _ in range(20):  # the log is written behind the answer
        if grep():
            break
        time.sleep(0.1)
    assert grep()
    everything = Path(log).read_text()
    assert session_id not in everything
    assert token not in everything
