/** What only the era without sessions has, with the official TypeScript SDK: handles, mirrored headers, prompts that ask. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { NO_SESSIONS, SESSIONS_V1, connect, ownServer } from './sdks.js';

test(`${NO_SESSIONS.name}: state is reached by a handle that the SDK mirrors for proxies`, async t => {
    const { client, call, callTool, sent } = await connect(t, NO_SESSIONS, { instance: 8 });
    await client.listTools();
    const { session } = await call('create_session', { label: 'mine' });
    for (const count of [1, 2]) {
        const echoed = await call('echo', { message: 'hello', session });
        assert.deepEqual([echoed.session_id, echoed.request_count], [session, count]);
    }
    assert.equal(sent.at(-1).headers.get('mcp-param-session'), session);
    assert.equal((await call('echo', { message: 'hello' })).session_id, null);

    await call('end_session', { session });
    const refused = await callTool('echo', { message: 'anyone?', session });
    assert.ok(refused.isError && refused.content[0].text.includes('create_session'), refused.content[0].text);
    assert.ok(!sent.some(({ answer }) => answer.has('mcp-session-id')));
});

test(`${NO_SESSIONS.name}: a tool that was never listed is called all the same`, async t => {
    // Without the schema the SDK mirrors nothing; it is refused, lists the tools, and tries again.
    const { say, sent } = await connect(t, NO_SESSIONS);
    assert.equal(await say('test_custom_header', { value: 'Zoë: 1 < 2', count: 3, flag: true }), 'Zoë: 1 < 2');
    assert.deepEqual(sent.map(({ status }) => status), [200, 400, 200, 200]);
    const mirrored = name => sent.at(-1).headers.get(`mcp-param-${name}`);
    assert.match(mirrored('value'), /^=\?base64\?/);
    assert.deepEqual([mirrored('count'), mirrored('flag')], ['3', 'true']);
});

test(`${NO_SESSIONS.name}: a session of one era is read and written in the other`, async t => {
    const [old, young] = [await connect(t, SESSIONS_V1), await connect(t, NO_SESSIONS)];
    const session = old.transport.sessionId;
    await young.client.listTools();
    await old.call('set_session_data', { key: 'from', value: 'the old era' });
    assert.equal((await young.call('get_session_data', { key: 'from', session })).value, 'the old era');
    await young.call('set_session_data', { key: 'from', value: 'the new era', session });
    assert.equal((await old.call('get_session_data', { key: 'from' })).value, 'the new era');
});

test(`${NO_SESSIONS.name}: a prompt asks its user`, async t => {
    const { client } = await connect(t, NO_SESSIONS);
    const { messages } = await client.getPrompt({ name: 'test_input_required_result_prompt' });
    assert.equal(messages[0].content.text, 'Use this context: Ada');
});

test(`${NO_SESSIONS.name}: a state that was changed on the way is refused`, async t => {
    const { client } = await connect(t, NO_SESSIONS, { more: { inputRequired: { autoFulfill: false } } });
    const params = { name: 'test_input_required_result_tampered_state', arguments: {} };
    const asked = await client.callTool(params, { allowInputRequired: true });
    assert.equal(asked.resultType, 'input_required');
    const inputResponses = { confirm: { action: 'accept', content: { ok: true } } };
    for (const requestState of [`${asked.requestState}x`, asked.requestState.slice(0, -1), 'x']) {
        await assert.rejects(client.callTool({ ...params, inputResponses, requestState }), { code: -32602 });
    }
    const result = await client.callTool({ ...params, inputResponses, requestState: asked.requestState });
    assert.equal(result.content[0].text, 'state-ok');
});

test(`${NO_SESSIONS.name}: a client without tasks waits instead, or is refused`, async t => {
    const { say, callTool } = await connect(t, NO_SESSIONS);
    assert.equal(await say('slow_compute', { seconds: 0.1 }), 'job took 0.1 seconds.');
    await assert.rejects(callTool('confirm_delete', { filename: 'notes.txt' }), { code: -32021 });
});

test(`${NO_SESSIONS.name}: a server that stops ends a subscription well`, async t => {
    const { server, port } = await ownServer(t);
    const { client } = await connect(t, NO_SESSIONS, { port });
    const subscription = await client.listen({ toolsListChanged: true });
    server.kill('SIGTERM');
    assert.equal(await subscription.closed, 'graceful');
});
