/**
 * The official TypeScript SDKs, version 1 and version 2, hold whole conversations with several instances, from
 * initialize to the end of the session and the 404 that follows it.
 */
import './names.js';
import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as v2 from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const PORT = process.env.ECHO_PORT;
const PAGE_TOOLS = ['echo', 'get_session_data', 'get_session_info', 'set_session_data'];
const SDKS = [
    { name: 'TypeScript SDK v1', Client: ClientV1, Transport: TransportV1, status: error => error.code },
    { name: 'TypeScript SDK v2', Client: v2.Client, Transport: v2.StreamableHTTPClientTransport, status: error => error.status },
];

const urlOf = instance => new URL(`http://echo-stateful${instance}.localhost:${PORT}/mcp`);

async function connect({ Client, Transport }, url, options) {
    const transport = new Transport(url, options);
    const client = new Client({ name: 'conversation-test', version: '1.0' });
    await client.connect(transport);
    const call = async (name, args = {}) => {
        const result = await client.callTool({ name, arguments: args });
        assert.ok(!result.isError, JSON.stringify(result));
        return result.structuredContent;
    };
    return { client, transport, call };
}

/** A client that goes on with a session it did not open meets a 404 that gives this reason. */
async function assertRefused(sdk, url, sessionId, reason) {
    const { client, call } = await connect(sdk, url, { sessionId });
    await assert.rejects(call('echo', { message: 'anyone?' }), error => {
        assert.equal(sdk.status(error), 404);
        assert.match(error.message, new RegExp(`"reason":"${reason}"`));
        return true;
    });
    await client.close();
}

for (const sdk of SDKS) {
    for (const instance of [0, 3, 9]) {
        test(`${sdk.name} talks with instance ${instance}`, async () => {
            const { client, transport, call } = await connect(sdk, urlOf(instance));
            const { sessionId } = transport;
            assert.equal(client.getServerVersion().name, 'mcp-echo-streamablehttp-stateful');
            assert.equal(transport.protocolVersion, '2025-11-25');

            const { tools } = await client.listTools();
            assert.deepEqual(tools.map(tool => tool.name).filter(name => PAGE_TOOLS.includes(name)).sort(), PAGE_TOOLS);
            for (const tool of tools) {
                assert.ok(tool.title && tool.description && tool.inputSchema && tool.outputSchema && tool.annotations, tool.name);
            }

            assert.equal((await call('echo', { message: 'hello' })).message, 'hello');
            await call('set_session_data', { key: 'user', value: { theme: 'dark', tries: [1, 2.5, null] } });
            const { value } = await call('get_session_data', { key: 'user' });
            assert.deepEqual(value, { theme: 'dark', tries: [1, 2.5, null] });

            const info = await call('get_session_info');
            assert.equal(info.session_id, sessionId);
            assert.equal(info.request_count, 3);
            assert.deepEqual(info.data_keys, ['user']);
            assert.deepEqual([info.minted_by.instance, info.served_by.instance], [instance, instance]);
            assert.deepEqual(info.client, { name: 'conversation-test', version: '1.0' });

            await transport.terminateSession();
            await client.close();
            await assertRefused(sdk, urlOf(instance), sessionId, 'terminated');
        });
    }

    test(`${sdk.name} takes a session to another instance`, async () => {
        const { client, transport, call } = await connect(sdk, urlOf(3));
        await call('set_session_data', { key: 'mine', value: 3 });
        await assertRefused(sdk, urlOf(4), transport.sessionId, 'other_instance');

        assert.equal((await call('get_session_data', { key: 'mine' })).value, 3);
        await transport.terminateSession();
        await client.close();
    });
}

test('TypeScript SDK v2 asks for a newer revision and finds a common one', async () => {
    const client = new v2.Client({ name: 'conversation-test', version: '1.0' }, { versionNegotiation: { mode: 'auto' } });
    await client.connect(new v2.StreamableHTTPClientTransport(urlOf(5)));
    const { structuredContent } = await client.callTool({ name: 'echo', arguments: { message: 'found one' } });
    assert.equal(structuredContent.message, 'found one');
    await client.close();
});
