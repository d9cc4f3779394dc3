"""Answers that are given before a large body has been read reach clients that are still sending it, every time."""

import http.client
import json
import os
import socket
import subprocess
import time

import pytest

BODY = 20_000_000
TIMES = 20

TOKEN = {"Authorization": "Bearer s3cret"}
JSON = {"Content-Type": "application/json"}

# The host in the URL, and the headers. 127.0.0.2 is no name of ours.
REFUSALS = {
    401: ("127.0.0.1", JSON),
    403: ("127.0.0.1", {**JSON, **TOKEN, "Origin": "http://evil.test"}),
    413: ("127.0.0.1", {**JSON, **TOKEN}),
    415: ("127.0.0.1", {**TOKEN, "Content-Type": "text/plain"}),
    421: ("127.0.0.2", {**JSON, **TOKEN}),
}

FETCH = """
const [url, headers, length, times] = JSON.parse(process.argv[1]);
const body = new Uint8Array(length).fill(32);
const once = async () => {
  const answer = await fetch(url, { method: 'POST', headers, body });
  await answer.text();
  return answer.status;
};
(async () => {
  const seen = [];
  for (let n = 0; n < times; n++) {
    seen.push(await once().catch((error) => String(error.cause ?? error)));
  }
  console.log(JSON.stringify(seen));
})();
"""


@pytest.fixture(scope="module")
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"PORT": str(port), "MCP_ECHO_AUTH__MODE": "tokens", "MCP_ECHO_AUTH__TOKENS": "a=s3cret"}
    server = subprocess.Popen([os.environ["ECHO_BINARY"]], env=variables,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield port
    server.terminate()
    assert server.wait(20) == 0


def by_python(host, port, headers):
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("POST", "/mcp", b" " * BODY, headers)
    return connection.getresponse().status


def by_curl(host, port, headers):
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    sent = subprocess.run([*command, f"http://{host}:{port}/mcp"], input=b" " * BODY,
                          stdout=subprocess.PIPE, check=False)
    return int(sent.stdout) if sent.returncode == 0 else f"exit code {sent.returncode}"


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("client", [by_python, by_curl])
def test_they_reach(port, client, status):
    host, headers = REFUSALS[status]
    assert [client(host, port, headers) for _ in range(TIMES)] == [status] * TIMES


@pytest.mark.parametrize("status", REFUSALS)
def test_they_reach_fetch(port, status):
    host, headers = REFUSALS[status]
    asked = json.dumps([f"http://{host}:{port}/mcp", headers, BODY, TIMES])
    ran = subprocess.run(["node", "-e", FETCH, asked], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [status] * TIMES
