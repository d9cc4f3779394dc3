"""The page's load test: 100 sessions on ten hosts, 10 requests each, all at once; none is lost and none strays."""

import asyncio

from servers import TOKEN as token
from servers import base_url
from stateful_echo_client import StatefulEchoClient


async def load_test_sessions(num_sessions=100, requests_per_session=10):
    """Test multiple concurrent sessions"""
    sessions = []

    # Create sessions
    for i in range(num_sessions):
        client = StatefulEchoClient(
            base_url(i % 10),
            token
        )
        await client.initialize()
        sessions.append(client)

    # Send requests from all sessions
    tasks = []
    for session_num, client in enumerate(sessions):
        for req_num in range(requests_per_session):
            task = client.echo_with_state(
                f"Session {session_num}, Request {req_num}"
            )
            tasks.append(task)

    # Execute all requests concurrently
    results = await asyncio.gather(*tasks)

    # Verify session isolation
    for client in sessions:
        info = await client.get_session_info()
        assert info["request_count"] == requests_per_session

    return sessions, results


async def test_load():
    sessions, results = await load_test_sessions()

    ids = [client.session_id for client in sessions]
    assert len(set(ids)) == 100

    # Each answer is the answer to its own question, in its own session.
    assert len(results) == 1000
    for number, answer in enumerate(results):
        echoed = answer["result"]["structuredContent"]
        assert echoed["message"] == f"Session {number // 10}, Request {number % 10}"
        assert echoed["session_id"] == ids[number // 10]

    # Each session was made by the instance that its host names, and is still served there.
    for i, client in enumerate(sessions):
        info = await client.get_session_info()
        assert client.session_id[0] == str(i % 10)
        assert info["minted_by"]["instance"] == info["served_by"]["instance"] == i % 10
