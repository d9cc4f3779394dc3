/** The official TypeScript SDKs lose their connections in the middle of a call, and get everything all the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { NO_SESSIONS, SESSIONS_V1, SESSIONS_V2, breakingWire, connect, userResponse } from './sdks.js';

for (const era of [SESSIONS_V1, SESSIONS_V2]) {
    test(`${era.name}: a stream that the server closes is picked up again`, async t => {
        const { say, sent } = await connect(t, era);
        assert.equal(await say('test_reconnection'), 'The stream was closed and picked up again.');
        assert.equal(sent.filter(({ headers }) => headers.has('last-event-id')).length, 1);
    });

    test(`${era.name}: a cut connection loses nothing and doubles nothing`, async t => {
        const wire = await breakingWire();
        const { call } = await connect(t, era, { port: wire.port });
        const seen = [];
        const onprogress = ({ progress }) => {
            seen.push(progress);
            if (progress === 2) wire.cut();
        };
        const ticks = await call('stream_ticks', { count: 6, interval_ms: 300 }, { onprogress });
        assert.equal(ticks.count, 6);
        assert.deepEqual(seen, [1, 2, 3, 4, 5, 6]);
        assert.match(wire.requests, /last-event-id:/i);
    });

    test(`${era.name}: a connection is cut while the user thinks`, async t => {
        const wire = await breakingWire();
        const thinks = async () => {
            wire.cut();
            await sleep(100);
            return { action: 'accept', content: { username: 'Ada', email: 'ada@example.com' } };
        };
        const { say } = await connect(t, era, { port: wire.port, answers: { 'elicitation/create': thinks } });
        assert.equal(userResponse(await say('test_elicitation', { message: 'Who?' })).content.username, 'Ada');
        assert.match(wire.requests, /last-event-id:/i);
    });
}

test(`${NO_SESSIONS.name}: a cut connection is a call given up`, async t => {
    const wire = await breakingWire();
    const { call } = await connect(t, NO_SESSIONS, { port: wire.port });
    const seen = [];
    const onprogress = ({ progress }) => {
        seen.push(progress);
        if (progress === 2) wire.cut();
    };
    // This SDK does not tell its caller that the stream is gone, so the call ends with its patience.
    await assert.rejects(call('stream_ticks', { count: 6, interval_ms: 500 }, { onprogress, timeout: 5000 }));
    // What was on its way may have come.
    assert.deepEqual(seen.slice(0, 2), [1, 2]);
    assert.ok(seen.length < 6, String(seen));
    assert.doesNotMatch(wire.requests, /last-event-id:/i);
    assert.equal((await call('echo', { message: 'and on' })).message, 'and on');
});
