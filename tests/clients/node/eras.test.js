/**
 * What the official TypeScript SDKs can do, tried in both eras: with sessions, and with every request for itself.
 *
 * A tool that asks its client sends a request in the one and answers `input_required` in the other; the SDK's user and
 * the tool see no difference, so neither do these tests.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { EITHER_ERA, SESSIONS_V1, connect, eventually, userResponse } from './sdks.js';

for (const era of EITHER_ERA) {
    /** A test of one client in this era. */
    const tried = (what, options, body) =>
        test(`${era.name}: ${what}`, async t => body(await connect(t, era, options)));

    tried('the user fills in forms', {}, async ({ say, asked }) => {
        const { content } = userResponse(await say('test_elicitation', { message: 'Who are you?' }));
        assert.deepEqual(content, { username: 'Ada', email: 'ada@example.com' });
        assert.equal(asked[0].params.message, 'Who are you?');

        const defaults = userResponse(await say('test_elicitation_sep1034_defaults'));
        assert.deepEqual(defaults.content, { name: 'John Doe', age: 30, score: 95.5, status: 'active', verified: true });
        const choices = userResponse(await say('test_elicitation_sep1330_enums'));
        assert.deepEqual(choices.content, {
            untitledSingle: 'option1', titledSingle: 'value1', legacyEnum: 'opt1', untitledMulti: ['option1'], titledMulti: ['value1']
        });
    });

    for (const action of ['decline', 'cancel']) {
        tried(`the user may ${action}`, { answers: { 'elicitation/create': () => ({ action }) } }, async ({ say }) => {
            assert.deepEqual(userResponse(await say('test_elicitation', { message: 'Who are you?' })), { action });
        });
    }

    tried('the user opens a page', {}, async ({ say, asked }) => {
        assert.equal(userResponse(await say('test_elicitation_url')).action, 'accept');
        assert.deepEqual(asked.map(({ params }) => params.url), ['https://example.com/consent']);
    });

    tried('the model and the roots are asked', {}, async ({ say }) => {
        assert.equal(await say('test_sampling', { prompt: '2 + 2?' }), 'LLM response: an answer to: 2 + 2?');
        assert.equal(await say('test_list_roots'), '1 roots: file:///home/ada');
        assert.equal(
            await say('test_input_required_result_multiple_inputs'),
            'Ada: an answer to: Write a short greeting.; 1 roots: file:///home/ada'
        );
    });

    tried('a tool asks twice and keeps its state', {}, async ({ say, asked }) => {
        assert.equal(await say('test_input_required_result_multi_round'), 'Ada likes Ada.');
        assert.equal(await say('test_input_required_result_request_state'), 'state-ok');
        assert.deepEqual(asked.map(({ params }) => params.message), [
            'What is your name?', 'What is your favourite colour?', 'Please confirm'
        ]);
    });

    tried('a client that cannot answer is not asked', { capable: false }, async ({ callTool, call }) => {
        const asking = callTool('test_sampling', { prompt: 'anyone?' });
        if (era.sessions) {
            const { isError, content } = await asking;
            assert.ok(isError && content[0].text.includes('sampling'), content[0].text);
        } else {
            await assert.rejects(asking, { code: -32021, data: { requiredCapabilities: { sampling: {} } } });
        }
        assert.equal((await call('echo', { message: 'still here' })).message, 'still here');
    });

    tried('progress arrives as it is made', {}, async ({ callTool, call }) => {
        let steps = [];
        const onprogress = ({ progress, total }) => steps.push({ progress, total, at: Date.now() });
        await callTool('test_tool_with_progress', {}, { onprogress });
        assert.deepEqual(steps.map(({ progress, total }) => [progress, total]), [[0, 100], [50, 100], [100, 100]]);

        steps = [];
        const ticks = await call('stream_ticks', { count: 4, interval_ms: 400 }, { onprogress });
        assert.equal(ticks.streamed, true);
        assert.deepEqual(steps.map(({ progress }) => progress), [1, 2, 3, 4]);
        // Together at the end would mean that something on the way had kept them.
        assert.ok(steps[3].at - steps[0].at > 200, JSON.stringify(steps));
    });

    tried('log messages come from the level that was asked for', {}, async ({ client, callTool, logged }) => {
        const at = async level => {
            const before = logged().length;
            if (era.sessions) {
                await client.setLoggingLevel(level);
                await callTool('test_tool_with_logging');
            } else {
                await client.callTool({ name: 'test_tool_with_logging', _meta: { 'io.modelcontextprotocol/logLevel': level } });
            }
            return logged().slice(before).map(({ level }) => level);
        };
        assert.deepEqual(await at('warning'), []);
        assert.deepEqual(await at('info'), ['info', 'info', 'info']);
    });

    tried('everything listed can be read', {}, async ({ client }) => {
        const { resources } = await client.listResources();
        assert.ok(resources.some(({ uri }) => uri === 'echo://server'));
        for (const { uri, mimeType } of resources) {
            const { contents: [contents] } = await client.readResource({ uri });
            assert.equal(contents.mimeType, mimeType);
            assert.equal('blob' in contents, mimeType.startsWith('image/'));
        }
        const { resourceTemplates } = await client.listResourceTemplates();
        assert.ok(resourceTemplates.some(({ uriTemplate }) => uriTemplate === 'test://template/{id}/data'));
        const { contents: [filled] } = await client.readResource({ uri: 'test://template/42/data' });
        assert.match(filled.text, /Data for ID: 42/);
        // Version 2 of the SDK knows the code of either era, and shows the newer one.
        const code = era === SESSIONS_V1 ? -32002 : -32602;
        await assert.rejects(client.readResource({ uri: 'test://nothing-here' }), { code });
    });

    tried('prompts are filled in and arguments completed', {}, async ({ client }) => {
        const { prompts } = await client.listPrompts();
        assert.ok(prompts.some(({ name }) => name === 'test_prompt_with_arguments'));
        const prompt = await client.getPrompt({ name: 'test_prompt_with_arguments', arguments: { arg1: 'one', arg2: 'two' } });
        assert.equal(prompt.messages[0].content.text, "Prompt with arguments: arg1='one', arg2='two'");
        assert.equal((await client.getPrompt({ name: 'test_prompt_with_image' })).messages[0].content.type, 'image');
        await assert.rejects(client.getPrompt({ name: 'test_prompt_with_arguments', arguments: {} }), { code: -32602 });

        const ref = { type: 'ref/prompt', name: 'test_prompt_with_arguments' };
        const { completion } = await client.complete({ ref, argument: { name: 'arg1', value: 'testi' } });
        assert.deepEqual(completion.values, ['testing']);
    });

    tried('a changed value is told to who asked', {}, async ({ client, transport, call, say, told, sent }) => {
        await client.listTools();
        const handle = era.sessions ? transport.sessionId : (await call('create_session')).session;
        const uri = `session://${handle}/data/colour`;
        const store = value => call('set_session_data', { key: 'colour', value, ...(era.sessions ? {} : { session: handle }) });
        const updates = () => told.filter(({ method }) => method === 'notifications/resources/updated');
        const changes = () => told.filter(({ method }) => method === 'notifications/tools/list_changed');

        let unsubscribe = () => client.unsubscribeResource({ uri });
        if (era.sessions) {
            // What is said before there is a stream to say it on is lost.
            await eventually(() => sent.some(({ method, status }) => method === 'GET' && status === 200));
            await client.subscribeResource({ uri });
        } else {
            const subscription = await client.listen({ resourceSubscriptions: [uri], toolsListChanged: true });
            assert.deepEqual(subscription.honoredFilter, { resourceSubscriptions: [uri], toolsListChanged: true });
            unsubscribe = async () => {
                await subscription.close();
                assert.equal(await subscription.closed, 'local');
            };
        }
        await store('blue');
        await eventually(() => updates().length === 1);
        assert.equal(updates()[0].params.uri, uri);
        assert.equal((await client.readResource({ uri })).contents[0].text, '"blue"');
        await say('test_trigger_tool_change');
        await eventually(() => changes().length === 1);

        await unsubscribe();
        await store('red');
        await sleep(200);
        assert.equal(updates().length, 1);
    });

    tried('a cancelled call is given up', {}, async ({ client, call }) => {
        await client.listTools();
        const session = era.sessions ? {} : { session: (await call('create_session')).session };
        await call('echo', { message: 'before', ...session });
        const cancelled = call('echo', { message: 'never', delay: 1, ...session }, { signal: AbortSignal.timeout(300) });
        await assert.rejects(cancelled);
        await sleep(1000);
        // What was given up is not counted and left nothing to replay.
        assert.equal((await call('get_session_info', session)).request_count, 1);
        assert.equal((await call('replayLastEcho', session)).message, 'before');
    });
}
