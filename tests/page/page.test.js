/** The page at /debug in a real browser. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, beforeEach, afterEach, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { launch, openPage } from './browser.js';
import { Server, TOKEN, freePort } from './server.js';

let close, browser, server, page, complaints;

before(async () => {
  ({ browser, close } = await launch());
});

after(async () => {
  await close?.();
});

beforeEach(async () => {
  server = await Server.start();
  complaints = [];
  page = await openPage(browser, complaints);
  page.on('dialog', (dialog) => complaints.push(`a dialog: ${dialog.message()}`));
});

/** What a test provokes stands in the console as errors. */
let provoked;
const REFUSALS = /^Failed to load resource|ERR_/;
const MARKUP = /trusted/i;

afterEach(async () => {
  await page.close();
  await server.stop();
  const others = complaints.filter((text) => !provoked?.test(text));
  provoked = undefined;
  assert.deepEqual(others, []);
});

const open = async (instance = '') => {
  await page.goto(`${server.url(instance)}#token=${TOKEN}`);
  await page.locator('#pill[data-state=live]').waitFor();
};

const eventually = async (what, expected) => {
  let seen;
  for (const end = Date.now() + 10000; Date.now() < end;) {
    seen = await what();
    if (seen === expected) return;
    await page.waitForTimeout(50);
  }
  assert.equal(seen, expected);
};

const tile = (instance) => page.locator(`.tile[data-instance="${instance}"]`);
const refs = () => page.locator('#rows .ref').allTextContents();

test('a token in the address opens it, is kept by the tab alone, and leaves the address', async () => {
  await open();
  assert.equal(page.url(), server.url());
  assert.equal(await page.locator('.tile').count(), 10);
  await page.reload();
  await page.locator('#pill[data-state=live]').waitFor();
  await page.locator('#leave').click();
  await page.locator('#token').waitFor();
  await page.reload();
  await page.locator('#token').waitFor();
  assert.equal(await page.evaluate(() => JSON.stringify([sessionStorage, localStorage, document.cookie])), '[{},{},""]');
});

test('the form opens it; a wrong token is told and nothing is shown', async () => {
  provoked = REFUSALS;
  await page.goto(server.url());
  await page.locator('#token').fill('wrong');
  await page.keyboard.press('Enter');
  await page.locator('#login-problem:has-text("does not accept")').waitFor();
  assert.ok(await page.locator('#page').isHidden());
  assert.equal(await page.locator('.tile').count(), 0);
  await page.locator('#token').fill('nö token');
  await page.keyboard.press('Enter');
  await page.locator('#login-problem:has-text("letters, digits")').waitFor();
  await page.locator('#token').fill(TOKEN);
  await page.keyboard.press('Enter');
  await page.locator('#pill[data-state=live]').waitFor();
});

test('tiles, list and feed follow by themselves', async () => {
  await open();
  await page.locator('#empty:has-text("No live session")').waitFor();
  const { id, ref, call } = await server.session(3, 'claude', '1.2');
  await eventually(() => tile(3).locator('.live b').textContent(), '1');
  await page.locator(`#rows tr:has-text("${ref}"):has-text("claude 1.2")`).waitFor();
  await page.locator(`#feed li[data-event=session_created]:has-text("${ref}")`).waitFor();

  const stream = await server.listen(3, id);
  await page.locator(`#feed li[data-event=stream_opened]:has-text("${ref}")`).waitFor();
  await eventually(() => tile(3).locator('.streams dd').textContent(), '1');
  stream.destroy();
  await page.locator(`#feed li[data-event=stream_closed]:has-text("${ref}")`).waitFor();

  assert.ok(!(await tile(3).getAttribute('class')).includes('failing'));
  const busy = setInterval(() => call('echo', { message: 'x' }).catch(() => {}), 20);
  const wrong = setInterval(() => call('no_such_tool').catch(() => {}), 200);
  await page.locator('.tile.failing[data-instance="3"]').waitFor();
  await eventually(async () => Number(await tile(3).locator('.req dd').textContent()) > 5, true);
  assert.match(await tile(3).locator('.curve').getAttribute('d'), /^M.+L/);
  assert.match(await tile(3).locator('.errors').getAttribute('d'), /^M/);
  assert.equal(await tile(4).locator('.req dd').textContent(), '0');
  clearInterval(busy);
  clearInterval(wrong);

  await server.ask(3, 'DELETE', '/mcp', { 'mcp-session-id': id });
  await page.locator(`#feed li[data-event=session_ended][data-reason=client]:has-text("${ref}")`).waitFor();
  await page.locator('#empty:has-text("No live session")').waitFor();
  await tile(3).locator('.reasons:has-text("1 by client")').waitFor();
});

test('search, one instance alone', async () => {
  const first = await server.session(1, 'Inspector');
  const second = await server.session(2, 'claude');
  await open();
  await eventually(async () => (await refs()).length, 2);
  const search = page.locator('#search');
  for (const [text, found] of [
    ['inspec', first.ref], [second.ref.slice(0, 6), second.ref], [second.id, second.ref], ['CLAUDE', second.ref],
  ]) {
    await search.fill(text);
    await eventually(async () => String(await refs()), found);
  }
  await search.fill('nobody');
  await page.locator('#empty:has-text("No live session fits")').waitFor();
  await search.fill('');
  await eventually(async () => (await refs()).length, 2);

  await tile(1).locator('.pick').click();
  await eventually(async () => String(await refs()), first.ref);
  await eventually(() => page.locator('#feed li:visible').count(), 1);
  await page.locator('#all').click();
  await eventually(async () => (await refs()).length, 2);
  assert.equal(await page.locator('#feed li:visible').count(), 2);
});

test('one session in detail, and its end by keyboard alone', async () => {
  provoked = REFUSALS;
  const { ref, id, call } = await server.session(5, 'keys');
  const other = await server.session(5, 'other');
  await call('set_session_data', { key: 'theme', value: { dark: true } });
  await call('echo', { message: 'hello' });
  await call('no_such_tool');
  await open();
  await eventually(async () => (await refs()).length, 2);

  const focused = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.id);
  await page.keyboard.press('/');
  assert.equal(await focused(), 'search');
  await page.keyboard.press('ArrowDown');
  const [upper, lower] = await refs();
  assert.equal(await focused(), upper);
  await page.keyboard.press('ArrowDown');
  assert.equal(await focused(), lower);
  await page.keyboard.press('ArrowUp');
  assert.equal(await focused(), upper);
  if (upper !== ref) await page.keyboard.press('ArrowDown');
  assert.equal(await focused(), ref);

  await page.keyboard.press('Enter');
  const detail = page.locator('#detail');
  await detail.locator('#detail-data tr:has-text("theme"):has-text("13 B")').waitFor();
  const requests = detail.locator('#detail-requests tbody tr');
  assert.equal(await requests.count(), 5);
  assert.match(await requests.nth(0).textContent(), /unknown_tool|invalid_params/);
  assert.ok((await requests.nth(0).getAttribute('class')).includes('error'));
  assert.match(await requests.nth(1).textContent(), /echo200ok/);
  assert.match(await requests.nth(4).textContent(), /initialize200ok/);
  await call('echo', { message: 'again' });
  await eventually(() => requests.count(), 6);
  await page.keyboard.press('Escape');
  await detail.waitFor({ state: 'hidden' });
  assert.equal(await focused(), ref);

  await page.keyboard.press('Enter');
  await detail.waitFor();
  await page.locator('#detail-end').focus();
  await page.keyboard.press('Enter');
  await page.locator('#confirm').waitFor();
  // What does no harm has the focus.
  assert.equal(await focused(), 'Keep');
  await page.keyboard.press('Enter');
  await page.locator('#confirm').waitFor({ state: 'hidden' });
  assert.equal((await server.rpc(5, 'ping', {}, id)).status, 200);
  await page.keyboard.press('Enter');
  await page.locator('#confirm').waitFor();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator('#done:has-text("ended")').waitFor();
  await eventually(async () => String(await refs()), other.ref);
  assert.equal((await server.rpc(5, 'ping', {}, id)).status, 404);
  assert.equal((await server.rpc(5, 'ping', {}, other.id)).status, 200);
});

test('a question that is asked again at once has an answer of its own', async () => {
  const { ref } = await server.session(5, 'hasty');
  await open();
  await page.locator(`#rows .ref:has-text("${ref}")`).click();
  await page.locator('#detail-facts:has-text("hasty 1.0")').waitFor();
  await page.evaluate(async () => {
    const press = (id) => document.getElementById(id).click();
    press('detail-end');
    press('confirm-no');
    press('detail-end');
    // By now the first dialog has said that it was closed.
    await new Promise((resolve) => setTimeout(resolve, 100));
    press('confirm-yes');
  });
  await page.locator('#done:has-text("ended")').waitFor();
});

test('a session that ends under the eyes of its observer is told so', async () => {
  provoked = REFUSALS;
  const { ref, id } = await server.session(0, 'brief');
  await open();
  await page.locator(`#rows .ref:has-text("${ref}")`).click();
  await page.locator('#detail-facts:has-text("brief 1.0")').waitFor();
  await server.ask(0, 'DELETE', '/mcp', { 'mcp-session-id': id });
  await page.locator('#detail-gone:has-text("its client ended it. What you see is what it was")').waitFor();
  assert.ok(await page.locator('#detail-end').isDisabled());
});

test('the red of a tile leads to the requests that failed, and why', async () => {
  const { id, ref } = await server.session(0, 'lost');
  await open();
  assert.ok(await page.locator('#all-failed').isHidden());
  assert.ok(await tile(3).locator('.err button').isDisabled());
  await server.rpc(3, 'tools/call', { name: 'echo', arguments: { message: 'x' } }, id);
  await page.locator('.tile.failing[data-instance="3"]').waitFor();
  await tile(3).locator('.err button').focus();
  await page.keyboard.press('Enter');
  const rows = page.locator('#failures-list tbody tr');
  await rows.first().waitFor();
  assert.equal(await rows.count(), 1);
  const text = await rows.first().textContent();
  assert.match(text, /^\d\d:\d\d:\d\d3 /, 'when, and who served');
  for (const part of ['tools/call', 'another instance minted this session id', '404', 'other_instance', ref]) {
    assert.ok(text.includes(part), `${part}: ${text}`);
  }
  assert.equal(await rows.first().locator('[data-name="id minted by"] .badge').textContent(), '0');
  assert.ok(!text.includes(id));
  // More come while it is open, and the session that it names is a key away.
  await server.rpc(3, 'ping', {}, id);
  await eventually(() => rows.count(), 2);
  await rows.first().locator('.ref').click();
  await page.locator('#detail-facts:has-text("lost 1.0")').waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await page.locator('#failures').waitFor({ state: 'hidden' });

  // A host that is not served reaches no instance.
  await server.ask(0, 'POST', '/mcp', { host: '<b>gateway</b>.internal' }, '{}');
  await server.ask(0, 'POST', '/mcp', { host: 'gateway.internal' }, '{}');
  await page.locator('#refused:has-text("2 of them reached no instance")').click();
  await page.locator('#failures-list tr:has-text("this host is not served here"):has-text("gateway.internal")').waitFor();
  assert.equal(await rows.count(), 2);
  await page.locator('#failures-close').click();
  await page.locator('#all-failed:has-text("4 failed requests")').click();
  await eventually(() => rows.count(), 4);
});

test('a session that has ended is found, with why it did and what it asked last', async () => {
  provoked = REFUSALS;
  const { id, ref, call } = await server.session(4, 'gone');
  await call('echo', { message: 'x' });
  await server.ask(4, 'DELETE', '/mcp', { 'mcp-session-id': id });
  await server.rpc(4, 'ping', {}, id);
  await open();
  await page.locator('#empty').waitFor();
  assert.ok(await page.locator('#ended').isHidden(), 'not before it is searched for');
  for (const text of [id, ref, ref.slice(0, 5)]) {
    await page.locator('#search').fill(text);
    await page.locator(`#ended tr:has-text("${ref}"):has-text("its client ended it")`).waitFor();
    await page.locator('#search').fill('');
    await page.locator('#ended').waitFor({ state: 'hidden' });
  }
  await page.locator('#search').fill(ref);
  await page.locator('#ended .ref').click();
  await page.locator('#detail-gone:has-text("its client ended it")').waitFor();
  const requests = page.locator('#detail-requests tbody tr');
  await eventually(() => requests.count(), 5);
  assert.match(await requests.nth(0).textContent(), /ping404terminated this session had been ended/);
  assert.match(await requests.nth(2).textContent(), /echo200ok/);
  assert.ok(await page.locator('#detail-end').isDisabled());
  await page.keyboard.press('Escape');
  // What nobody remembers is told so.
  await page.evaluate(() => { document.querySelector('#search').value = ''; });
  await server.rpc(4, 'ping', {}, `${id.slice(0, 35)}${id[35] === '0' ? 1 : 0}`);
  await page.locator('#all-failed').click();
  await page.locator('#failures-list tr:has-text("never given out") .ref').click();
  await page.locator('#detail-gone:has-text("no such session here")').waitFor();
});

test('a tile says its host and its policy, and all curves have one scale', async () => {
  await server.stop();
  await server.start({ MCP_ECHO_INSTANCES__6__AUTH__MODE: 'passthrough', MCP_ECHO_INSTANCES__6__SESSION__TIMEOUT_SECONDS: '30' });
  await open();
  assert.equal(await tile(6).locator('.host').textContent(), 'echo-stateful6.example.test');
  assert.equal(await tile(6).locator('.policy').textContent(), 'any bearer token · 5 revisions · 30 s idle');
  assert.match(await tile(6).locator('.policy').getAttribute('title'), /2025-06-18.*30 idle seconds/);
  assert.match(await tile(5).locator('.policy').textContent(), /^no token · .*5 min idle/);
  const busy = setInterval(() => server.rpc(2, 'ping', {}).catch(() => {}), 10);
  const calm = setInterval(() => server.rpc(3, 'ping', {}).catch(() => {}), 250);
  await eventually(async () => Number(await tile(2).locator('.req dd').textContent()) > 20, true);
  await eventually(async () => Number(await tile(3).locator('.req dd').textContent()) > 1, true);
  const highest = async (instance) => {
    const path = await tile(instance).locator('.curve').getAttribute('d') ?? '';
    return Math.min(...path.split(/[ML]/).filter(Boolean).map((point) => Number(point.split(' ')[1])));
  };
  // A curve has two points at least.
  await eventually(async () => await highest(2) < 3, true);
  clearInterval(busy);
  clearInterval(calm);
  assert.ok(await highest(3) > 14, 'a calm one does not');
  assert.ok(Number(await page.locator('#scale').textContent()) > 20);
});

test('the empty state has a line for a shell that begins a session there', async () => {
  await open();
  const line = page.locator('#curl');
  await page.locator('#try').waitFor();
  assert.ok((await line.textContent()).includes('/echo-stateful0/mcp'));
  await tile(7).locator('.pick').click();
  await page.locator('#curl:has-text("/echo-stateful7/mcp")').waitFor();
  const command = (await line.textContent()).replace('curl -si', `curl -si --noproxy '*' --resolve echo-stateful.example.test:${server.port}:127.0.0.1`);
  const answer = execFileSync('sh', ['-c', command], { encoding: 'utf8' });
  assert.match(answer, /mcp-session-id: 7/);
  await page.locator('#rows tr:has-text("curl 1")').waitFor();
  assert.ok(await page.locator('#try').isHidden());
});

test('from a port of its own, the line for a shell leads to where clients are', async () => {
  const admin = await freePort();
  await server.stop();
  await server.start({ MCP_ECHO_ADMIN__LISTEN: `127.0.0.1:${admin}`, MCP_ECHO_AUTH__MODE: 'passthrough' });
  await page.goto(`http://127.0.0.1:${admin}/debug#token=${TOKEN}`);
  await page.locator(`#curl:has-text("http://127.0.0.1:${server.port}/echo-stateful0/mcp -H \\"Authorization: Bearer $TOKEN")`).waitFor();
});

test('what counts sessions says in which order they stand', async () => {
  const refsInOrder = [];
  for (let count = 0; count < 52; count += 1) {
    refsInOrder.unshift((await server.session(1)).ref);
    await pause(2); // times are to the millisecond
  }
  await open();
  await page.locator('#sessions-count:has-text("the 50 of 52 used last, newest first")').waitFor();
  assert.deepEqual(await refs(), refsInOrder.slice(0, 50));
});

test('no line of the feed and no tile is cut or wraps', async () => {
  const { id } = await server.session(0);
  const stream = await server.listen(0, id);
  stream.on('error', () => {});
  for (let instance = 0; instance < 10; instance += 1) {
    for (let count = 0; count < 1 + instance; count += 1) {
      const ended = await server.session(instance);
      await server.ask(instance, 'DELETE', '/mcp', { 'mcp-session-id': ended.id });
    }
  }
  for (let count = 0; count < 3; count += 1) await server.session(9);
  await server.rpc(9, 'ping', {}, id);
  await server.rpc(9, 'tools/call', { name: 'a_tool_whose_name_goes_on_and_on_and_on_and_on', arguments: {} });
  await server.ask(0, 'POST', '/mcp', { host: `${'a'.repeat(60)}.internal` }, '{}');
  await server.ask('', 'DELETE', '/debug/sessions?instance=9', { authorization: `Bearer ${TOKEN}` });
  await open();
  await tile(9).locator('.reasons:has-text("10 by client, 3 by operator")').waitFor();
  await eventually(async () => await page.locator('#feed li').count() > 50, true);
  for (const width of [320, 360, 768, 1024, 1280, 1920]) {
    await page.setViewportSize({ width, height: 900 });
    const { lines, sideways, heights } = await page.evaluate(() => {
      const feed = document.querySelector('#feed');
      return {
        lines: feed.childElementCount,
        sideways: feed.scrollWidth - feed.clientWidth,
        heights: [...new Set([...document.querySelectorAll('.tile')].map((tile) => Math.round(tile.getBoundingClientRect().height)))],
      };
    });
    assert.ok(lines > 50, `${lines} lines`);
    assert.equal(sideways, 0, `the feed at ${width} px`);
    assert.equal(heights.length, 1, `tiles at ${width} px: ${heights}`);
    await page.locator('#all-failed').click();
    await page.locator('#failures-list tbody tr').first().waitFor();
    const wider = await page.locator('#failures-list').evaluate((list) => list.scrollWidth - list.clientWidth);
    // In between, it scrolls.
    if (width <= 360 || width >= 1280) assert.equal(wider, 0, `the failures at ${width} px`);
    await page.keyboard.press('Escape');
  }
  stream.destroy();
});

test('all sessions of one instance are ended, and no other', async () => {
  for (let count = 0; count < 3; count += 1) await server.session(7);
  const other = await server.session(8);
  await open();
  assert.ok(await page.locator('#end-all').isHidden(), 'not before one is chosen');
  await tile(7).locator('.pick').click();
  await page.locator('#end-all').click();
  await page.locator('#confirm-text:has-text("3 sessions")').waitFor();
  await page.locator('#confirm-no').click();
  await eventually(() => tile(7).locator('.live b').textContent(), '3');
  await page.locator('#end-all').click();
  await page.locator('#confirm-yes').click();
  await page.locator('#done:has-text("3 sessions of instance 7 ended")').waitFor();
  await eventually(() => tile(7).locator('.live b').textContent(), '0');
  await tile(7).locator('.reasons:has-text("3 by operator")').waitFor();
  assert.equal((await server.rpc(8, 'ping', {}, other.id)).status, 200);
});

test('at the host of an instance it shows that instance alone', async () => {
  await server.session(2);
  const own = await server.session(3, 'own');
  await open('3');
  assert.equal(await page.locator('.tile').count(), 1);
  await eventually(async () => String(await refs()), own.ref);
  await eventually(() => page.locator('#feed li').count(), 1);
  await page.locator('#end-all').click();
  await page.locator('#confirm-yes').click();
  await page.locator('#done:has-text("1 session of instance 3 ended")').waitFor();
});

test('what clients say is text', async () => {
  const attack = '<img src=x onerror=alert(1)><script>alert(2)</script>';
  const { ref, call } = await server.session(0, attack, '"><svg onload=alert(3)>');
  await call('set_session_data', { key: attack, value: 1 });
  await call('create_session', { label: attack });
  await open();
  await eventually(async () => (await refs()).length, 2);
  assert.ok((await page.locator('#rows').textContent()).includes(attack));
  await page.locator(`#rows .ref:has-text("${ref}")`).click();
  await page.locator('#detail-data td.key').waitFor();
  assert.equal(await page.locator('#detail-data td.key').textContent(), attack);
  assert.ok((await page.locator('#detail-facts').textContent()).includes(attack));
  assert.equal(await page.locator('img, script:not([type=module]), main svg:not(.spark)').count(), 0);
  await page.keyboard.press('Escape');
  assert.deepEqual(complaints, []);
  // The policy stands behind that: markup could not be made of text even by mistake.
  provoked = MARKUP;
  const refused = await page.evaluate(() => {
    try {
      document.createElement('p').innerHTML = '<b>x</b>';
      return 'taken';
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(refused, 'TypeError');
  await eventually(() => complaints.some((text) => MARKUP.test(text)), true);
});

test('a server that drains, is gone, and comes back', async () => {
  provoked = REFUSALS;
  const { call } = await server.session(0);
  await open();
  const slow = call('echo', { message: 'x', delay: 4 });
  const openCalls = async () => {
    const { text } = await server.ask('', 'GET', '/debug/overview', { authorization: `Bearer ${TOKEN}` });
    return JSON.parse(text).instances[0].open_calls;
  };
  await eventually(openCalls, 1);
  server.signal();
  await page.locator('#pill[data-state=draining]').waitFor();
  await page.locator('#feed li[data-event=draining]').waitFor();
  await slow;
  await server.ended();
  await page.locator('#pill[data-state=gone]').waitFor();
  await page.locator('#notice:has-text("cannot be reached")').waitFor();
  await server.start();
  await page.locator('#retry').click();
  await page.locator('#pill[data-state=live]').waitFor();
  await page.locator('#feed li[data-event=restarted]').waitFor();
  assert.ok(await page.locator('#notice').isHidden());
  const { ref } = await server.session(0);
  await page.locator(`#feed li[data-event=session_created]:has-text("${ref}")`).waitFor();
  assert.equal(await page.locator('#feed li[data-event=session_created]').count(), 2);

  // With another token it asks for that.
  await server.stop();
  await server.start({ ADMIN_TOKEN: 'another-token' });
  await page.locator('#login-problem:has-text("does not accept")').waitFor({ timeout: 20000 });
});

test('the address that the server prints opens it', async () => {
  await server.stop();
  await server.start({ ADMIN_TOKEN: '' });
  const [printed] = /http:\/\/127\.0\.0\.1:\d+\/debug\S+/.exec(server.greeting);
  await page.goto(printed);
  await page.locator('#pill[data-state=live]').waitFor();
});

test('a paused feed waits', async () => {
  await open();
  await page.locator('#pause').click();
  await server.session(0);
  await page.locator('#pause:has-text("Resume (1)")').waitFor();
  assert.equal(await page.locator('#feed li').count(), 0);
  await page.locator('#pause').click();
  assert.equal(await page.locator('#feed li').count(), 1);
});

test('it fits a phone, a tablet and a wide screen, in light and in dark', async () => {
  const long = 'a-client-with-a-name-that-goes-on-and-on-'.repeat(6);
  const { ref, call } = await server.session(0, long);
  await call('set_session_data', { key: 'k'.repeat(300), value: 1 });
  for (let instance = 1; instance < 10; instance += 1) await server.session(instance, `client ${instance}`);
  await open();
  await eventually(async () => (await refs()).length, 10);
  const backgrounds = new Set();
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    backgrounds.add(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor));
    for (const width of [320, 360, 768, 1024, 1280, 1920]) {
      await page.setViewportSize({ width, height: 800 });
      const wider = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(await wider() <= 0, `${width} px`);
      await page.locator(`#rows .ref:has-text("${ref}")`).click();
      await page.locator('#detail-data td.key').waitFor();
      const inside = () => page.evaluate(() => {
        const dialog = document.querySelector('#detail');
        const { left, right } = dialog.getBoundingClientRect();
        return left >= 0 && right <= innerWidth && dialog.scrollWidth <= dialog.clientWidth;
      });
      assert.ok(await inside(), `the detail at ${width} px`);
      await page.keyboard.press('Escape');
    }
  }
  assert.equal(backgrounds.size, 2);
});

/** The contrast of every piece of text with what is behind it (WCAG 2.2, 1.4.3: at least 4.5). */
test('every text can be read, in light and in dark', async () => {
  const { call } = await server.session(0, 'claude');
  await call('no_such_tool');
  await open();
  await eventually(async () => (await refs()).length, 1);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    const { count, faint } = await page.evaluate(() => {
      const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
      const luminance = ([r, g, b]) => [r, g, b].map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
      const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
          const colour = parse(getComputedStyle(at).backgroundColor);
          if (colour[3] === undefined || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
      };
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      const found = { count: 0, faint: [] };
      while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('.sr, :disabled, .skip')) continue;
        const [one, two] = [parse(getComputedStyle(element).color), behind(element)].map(luminance);
        const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        found.count += 1;
        if (contrast < 4.5) found.faint.push(`${walker.currentNode.data.trim()}: ${contrast.toFixed(2)}`);
      }
      return found;
    });
    assert.ok(count > 100, `${count} texts`);
    assert.deepEqual(faint, [], colorScheme);
  }
});
