/**
 * The official TypeScript SDKs behind one face, a user who answers what servers ask, and a wire that breaks.
 */
import './names.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import * as v2 from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as schemasV1 from '@modelcontextprotocol/sdk/types.js';

/** The server that `run` started with everything that can be asked of a client; see there what its instances serve. */
export const FULL_PORT = Number(process.env.ECHO_FULL_PORT);
export const ALONE = { 1: '2024-11-05', 2: '2025-03-26', 3: '2025-06-18', 4: '2025-11-25', 6: '2026-07-28' };
export const SESSIONED = 5;
export const STATELESS = 6;

/** Version 1 of the SDK names what it handles by schemas. */
const SCHEMAS_V1 = {
    'elicitation/create': schemasV1.ElicitRequestSchema,
    'sampling/createMessage': schemasV1.CreateMessageRequestSchema,
    'roots/list': schemasV1.ListRootsRequestSchema,
    'notifications/message': schemasV1.LoggingMessageNotificationSchema,
    'notifications/resources/updated': schemasV1.ResourceUpdatedNotificationSchema,
    'notifications/tools/list_changed': schemasV1.ToolListChangedNotificationSchema
};

const V1 = {
    Client: ClientV1,
    Transport: TransportV1,
    key: method => SCHEMAS_V1[method],
    callTool: (client, params, options) => client.callTool(params, undefined, options)
};
const V2 = {
    Client: v2.Client,
    Transport: v2.StreamableHTTPClientTransport,
    key: method => method,
    callTool: (client, params, options) => client.callTool(params, options)
};

export const SESSIONS_V1 = { name: 'TypeScript SDK v1', sessions: true, sdk: V1 };
export const SESSIONS_V2 = { name: 'TypeScript SDK v2, initialize', sessions: true, sdk: V2 };
export const NO_SESSIONS = {
    name: 'TypeScript SDK v2, 2026-07-28',
    sessions: false,
    sdk: V2,
    options: { versionNegotiation: { mode: { pin: '2026-07-28' } } }
};
export const AUTO = { name: 'TypeScript SDK v2, auto', sdk: V2, options: { versionNegotiation: { mode: 'auto' } } };
export const EITHER_ERA = [SESSIONS_V1, SESSIONS_V2, NO_SESSIONS];

/** Something that fits a field of a form. */
function fill(schema) {
    const choices = schema.items ?? schema;
    const first = choices.enum?.[0] ?? (choices.oneOf ?? choices.anyOf)?.[0].const;
    if (schema.default !== undefined) return schema.default;
    if (first !== undefined) return schema.type === 'array' ? [first] : first;
    if (schema.type === 'boolean') return true;
    return schema.format === 'email' ? 'ada@example.com' : 'Ada';
}

/**
 * A client whose user answers everything, closed after the test. `asked` and `told` are what the server asked and told,
 * `sent` the requests under it.
 */
export async function connect(t, { sdk, options }, { instance = 0, port = FULL_PORT, answers, more, capable = true } = {}) {
    const asked = [];
    const told = [];
    const sent = [];
    const transport = new sdk.Transport(new URL(`http://echo-stateful${instance}.localhost:${port}/mcp`), {
        fetch: async (url, init) => {
            const response = await fetch(url, init);
            sent.push({ method: init.method ?? 'GET', headers: new Headers(init.headers), status: response.status, answer: response.headers });
            return response;
        }
    });
    const capabilities = capable ? { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} } : {};
    const client = new sdk.Client({ name: 'eras-test', version: '1.0' }, { capabilities, ...options, ...more });
    const on = {
        'elicitation/create': ({ params }) => {
            if (params.mode === 'url') return { action: 'accept' };
            const fields = Object.entries(params.requestedSchema.properties);
            return { action: 'accept', content: Object.fromEntries(fields.map(([name, schema]) => [name, fill(schema)])) };
        },
        'sampling/createMessage': ({ params }) => ({
            role: 'assistant',
            model: 'a-model',
            content: { type: 'text', text: `an answer to: ${[params.messages[0].content].flat()[0].text}` }
        }),
        'roots/list': () => ({ roots: [{ uri: 'file:///home/ada', name: 'home' }] }),
        ...answers
    };
    for (const [method, answer] of Object.entries(capable ? on : {})) {
        client.setRequestHandler(sdk.key(method), async request => {
            asked.push(request);
            return answer(request);
        });
    }
    for (const method of Object.keys(SCHEMAS_V1).filter(name => name.startsWith('notifications/'))) {
        client.setNotificationHandler(sdk.key(method), notification => void told.push(notification));
    }
    await client.connect(transport);
    t.after(async () => {
        if (transport.sessionId) await transport.terminateSession();
        await client.close();
    });

    const callTool = (name, args = {}, options = {}) => sdk.callTool(client, { name, arguments: args }, options);
    const checked = async (...call) => {
        const result = await callTool(...call);
        if (result.isError) throw new Error(JSON.stringify(result));
        return result;
    };
    return {
        client,
        transport,
        asked,
        told,
        sent,
        callTool,
        call: async (...call) => (await checked(...call)).structuredContent,
        say: async (...call) => (await checked(...call)).content[0].text,
        logged: () => told.filter(({ method }) => method === 'notifications/message').map(({ params }) => params)
    };
}

/** What the tools that ask make of an answer. */
export const userResponse = text => JSON.parse(text.replace(/^User response: /, ''));

/** Waits until something is so. */
export async function eventually(what) {
    for (const end = Date.now() + 10_000; !what(); await sleep(10)) {
        if (Date.now() > end) throw new Error(`never came true: ${what}`);
    }
}

/** A server that a test may stop. */
export async function ownServer(t) {
    const server = spawn(process.env.ECHO_BINARY, { env: { HOST: '127.0.0.1', PORT: '0' } });
    t.after(() => server.kill('SIGKILL'));
    const [first] = await once(readline.createInterface({ input: server.stdout }), 'line');
    return { server, port: Number(/address=\S+:(\d+)/.exec(first)[1]) };
}

/** A way to the server on which every connection can be cut, as when a cable is pulled. */
export async function breakingWire() {
    const open = new Set();
    const wire = { requests: '', cut: () => open.forEach(socket => socket.destroy()) };
    // Nothing here keeps the process alive, so there is nothing to close.
    const listener = net.createServer(near => {
        near.unref();
        const far = net.connect(FULL_PORT, '127.0.0.1').unref();
        near.on('data', piece => void (wire.requests += piece));
        for (const [one, other] of [[near, far], [far, near]]) {
            open.add(one);
            one.on('error', () => {}).on('close', () => (open.delete(one), other.destroy()));
            one.pipe(other);
        }
    });
    await new Promise(ready => listener.listen(0, '127.0.0.1', ready));
    listener.unref();
    wire.port = listener.address().port;
    return wire;
}
