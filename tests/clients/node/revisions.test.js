/** The official TypeScript SDKs agree with the server on a revision: on each one, and on an era. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ALONE, AUTO, NO_SESSIONS, SESSIONED, SESSIONS_V1, SESSIONS_V2, STATELESS, connect } from './sdks.js';

for (const era of [SESSIONS_V1, SESSIONS_V2]) {
    for (const [instance, revision] of Object.entries(ALONE).filter(([, revision]) => revision < '2026')) {
        test(`${era.name}: ${revision} is agreed on where it alone is served`, async t => {
            const { transport, call, say } = await connect(t, era, { instance });
            assert.equal(transport.protocolVersion, revision);
            assert.equal((await call('get_session_info')).protocol_version, revision);
            assert.equal(await say('test_sampling', { prompt: '?' }), 'LLM response: an answer to: ?');
        });
    }

    test(`${era.name}: a server of the other era says which revisions it serves`, async t => {
        await assert.rejects(connect(t, era, { instance: STATELESS }), /2026-07-28/);
    });
}

for (const revision of Object.values(ALONE).filter(revision => revision < '2026')) {
    test(`TypeScript SDK v2: asks for ${revision} and gets it`, async t => {
        const { client, call } = await connect(t, SESSIONS_V2, { more: { supportedProtocolVersions: [revision] } });
        assert.equal(client.getNegotiatedProtocolVersion(), revision);
        assert.equal((await call('get_session_info')).protocol_version, revision);
    });
}

for (const [instance, revision] of [[0, '2026-07-28'], [SESSIONED, '2025-11-25'], [STATELESS, '2026-07-28']]) {
    test(`${AUTO.name}: finds ${revision} at instance ${instance}`, async t => {
        const { client, call, sent } = await connect(t, AUTO, { instance });
        assert.equal(client.getNegotiatedProtocolVersion(), revision);
        assert.equal(client.getServerVersion().name, 'mcp-echo-streamablehttp-stateful');
        assert.equal((await call('echo', { message: 'hello' })).message, 'hello');
        assert.equal(sent.some(({ answer }) => answer.has('mcp-session-id')), revision < '2026');
    });
}

test(`${NO_SESSIONS.name}: fails where only sessions are served`, async t => {
    await assert.rejects(connect(t, NO_SESSIONS, { instance: SESSIONED }), { code: 'ERA_NEGOTIATION_FAILED' });
});
