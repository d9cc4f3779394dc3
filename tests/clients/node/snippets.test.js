/** What the page at / offers to copy runs as it stands: the official TypeScript SDK, and a shell. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);
const here = `http://127.0.0.1:${process.env.ECHO_PORT}`;

async function snippet(name) {
    const page = await (await fetch(here, { headers: { accept: 'text/html' } })).text();
    const [, marked] = page.match(new RegExp(`<h3>${name}</h3>\n<pre>(.*?)</pre>`, 's'));
    const text = marked.replaceAll(/<\/?b>/g, '');
    assert.ok(text.includes(`${here}/mcp`), text);
    return text;
}

test('the TypeScript of the page', async () => {
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', await snippet('TypeScript: @modelcontextprotocol/client')]);
    assert.match(stdout, /text: 'hello'/);
});

test('the curl of the page', async () => {
    const { stdout } = await run('bash', ['-c', await snippet('curl')]);
    assert.equal(JSON.parse(stdout).result.content[0].text, 'hello');
});
