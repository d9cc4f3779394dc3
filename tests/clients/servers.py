"""Where the servers that `run` started are, and the one raw request that several tests need."""

import os

import httpx

PORT = int(os.environ["ECHO_PORT"])
LOG_FILE = os.environ["ECHO_LOG_FILE"]
TOKEN = os.environ["TOKEN"]
# A second server: sessions end after two idle seconds, and every request needs a known bearer token.
STRICT_PORT = int(os.environ["ECHO_STRICT_PORT"])
STRICT_CLIENT_ID, STRICT_SECRET = os.environ["ECHO_STRICT_TOKEN"].split("=")
STRICT_LOG_FILE = os.environ["ECHO_STRICT_LOG_FILE"]

# A third server: the conformance suite's tools beside the usual ones, event streams wherever there can be one. These
# instances of it serve one revision alone, or one era.
FULL_PORT = int(os.environ["ECHO_FULL_PORT"])
ALONE = {1: "2024-11-05", 2: "2025-03-26", 3: "2025-06-18", 4: "2025-11-25", 6: "2026-07-28"}
SESSIONED, STATELESS = 5, 6

# A fourth: the profile of that name, which serves the revisions that have sessions and no other.
SESSIONS_PORT = int(os.environ["ECHO_SESSIONS_PORT"])


def base_url(instance="", domain="example.com", port=PORT):
    """The address of one instance; without a number, the front door."""
    return f"http://echo-stateful{instance}.{domain}:{port}"


def ask(url, session_id):
    """One bare request in a given session."""
    return httpx.post(f"{url}/mcp", headers={"Mcp-Session-Id": session_id},
                      json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})


def refusal(response):
    """Why the server did not know a session: the reason in its 404."""
    assert response.status_code == 404, response.text
    error = response.json()["error"]
    assert error["code"] == -32001, error
    return error["data"]["reason"]
