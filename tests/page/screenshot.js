/** Takes the pictures of the page for the documents: a server with some life in it, for two minutes. */
import path from 'node:path';

import { launch } from './browser.js';
import { Server, TOKEN } from './server.js';

const [directory, seconds = '124'] = process.argv.slice(2);
const CLIENTS = [['mcp-inspector', '0.21.0'], ['python-sdk', '1.28.1'], ['gateway-smoke-test', '3'], ['typescript-sdk', '2.4.0'], ['curl', '8.14']];

const server = await Server.start({ HOSTNAME: 'echo-a', MCP_ECHO_REPLICA__TAG: 'a1', MCP_ECHO_SESSION__CAPACITY: '500', MCP_SESSION_TIMEOUT: '30' });
const { browser, close } = await launch(1360, 940);

let going = true;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One client of an instance, again and again, busier at one time than at another. */
async function life(instance, weight, wrong) {
  for (let turn = 0; going; turn += 1) {
    const session = await server.session(instance, ...CLIENTS[(instance + turn) % CLIENTS.length]);
    const calls = 30 + Math.floor(Math.random() * 120);
    const stream = turn % 3 === 0 && await server.listen(instance, session.id);
    if (stream) stream.on('error', () => {});
    for (let call = 0; call < calls && going; call += 1) {
      if (call % 9 === 0) await session.call('set_session_data', { key: `note-${call % 4}`, value: 'x'.repeat(40 * call) });
      else await session.call(Math.random() < wrong ? 'no_such_tool' : 'echo', { message: 'hello' });
      await pause((40 + 160 * (1 + Math.sin(Date.now() / 9000 + instance))) / weight);
    }
    if (stream && turn % 2) stream.destroy();
    if (Math.random() < 0.5) await server.ask(instance, 'DELETE', '/mcp', { 'mcp-session-id': session.id });
  }
}

const lives = [[0, 2.5, 0], [0, 1.5, 0], [0, 1, 0], [1, 1, 0.004], [2, 0.5, 0], [3, 3, 0], [3, 1, 0], [4, 0.4, 0], [6, 1.2, 0.12], [7, 0.8, 0], [9, 0.3, 0]]
  .map(([instance, weight, wrong]) => life(instance, weight, wrong).catch((error) => { if (going) throw error; }));

const desk = await browser.newPage();
const phone = await browser.newPage();
await phone.setViewportSize({ width: 390, height: 844 });
await phone.emulateMedia({ colorScheme: 'dark' });
for (const page of [desk, phone]) await page.goto(`${server.url()}#token=${TOKEN}`);
await pause(Number(seconds) * 1000);

await desk.screenshot({ path: path.join(directory, 'debug.png') });
await phone.screenshot({ path: path.join(directory, 'debug-phone.png') });

if (process.env.MORE) {
  // For whoever works on the page.
  const shot = async (page, name) => page.screenshot({ path: path.join(directory, `more-${name}.png`) });
  await phone.screenshot({ path: path.join(directory, 'more-phone-whole.png'), fullPage: true });
  await desk.emulateMedia({ colorScheme: 'dark' });
  await shot(desk, 'dark');
  await desk.emulateMedia({ colorScheme: 'light' });
  await desk.locator('.tile[data-instance="6"] button').click();
  await pause(500);
  await shot(desk, 'chosen');
  await desk.mouse.move(0, 0);
  await desk.locator('#rows .ref').first().click();
  await pause(800);
  await shot(desk, 'detail');
  await desk.locator('#detail-end').click();
  await shot(desk, 'confirm');
  await phone.locator('#rows .ref').first().click();
  await pause(800);
  await shot(phone, 'phone-detail');
  for (const width of [800, 1024]) {
    await desk.setViewportSize({ width, height: 940 });
    await desk.keyboard.press('Escape');
    await desk.keyboard.press('Escape');
    await pause(300);
    await shot(desk, String(width));
  }
  await desk.locator('#leave').click();
  await shot(desk, 'login');
}

going = false;
await close();
await server.stop();
await Promise.allSettled(lives);
