/** The page at / in a real browser. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';

import { launch, openPage } from './browser.js';
import { Server } from './server.js';

let close, browser, server, page, complaints;

before(async () => {
  ({ browser, close } = await launch());
});

after(async () => {
  await close?.();
});

beforeEach(async () => {
  server = await Server.start({ HOSTNAME: 'pod-7', MCP_ECHO_INSTANCES__3__AUTH__MODE: 'passthrough' });
  complaints = [];
  page = await openPage(browser, complaints);
});

afterEach(async () => {
  await page.close();
  await server.stop();
  assert.deepEqual(complaints, []);
});

const here = (instance = '') => new URL(server.url(instance, '/')).origin;
const open = (instance = '') => page.goto(`${here(instance)}/`);
const snippet = (name) => page.locator('section', { hasText: name }).locator('pre');
const urls = async () => new Set(await page.locator('pre b').allTextContents());

test('it shows all ten, and asks for nothing but itself and its icon', async () => {
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  await open();
  assert.match(await page.locator('header').textContent(), /mcp-echo-stateful\s+\d+\.\d+\.\d+, replica pod-7/);
  const rows = await page.locator('#places tr').allInnerTexts();
  assert.equal(rows.length, 11);
  assert.match(rows[4], new RegExp(`Instance 3\\s+${here()}/echo-stateful3/mcp\\s+${here(3)}/mcp`));
  assert.equal(await page.locator('#facts tbody tr').count(), 2);
  const loaded = await page.evaluate(async () => {
    const icon = new Image();
    icon.src = '/favicon.ico';
    await icon.decode();
    return icon.naturalWidth > 0;
  });
  assert.ok(loaded);
  assert.deepEqual(asked.filter((url) => ![`${here()}/`, `${here()}/favicon.ico`].includes(url)), []);
  assert.ok(asked.length > 0);
});

test('the chosen URL stands in every snippet, by mouse and by keyboard', async () => {
  await open();
  assert.deepEqual(await urls(), new Set([`${here()}/mcp`]));
  await page.locator('label', { hasText: `${here(3)}/mcp` }).click();
  assert.deepEqual(await urls(), new Set([`${here(3)}/mcp`]));
  await page.keyboard.press('ArrowDown');
  assert.deepEqual(await urls(), new Set([`${here()}/echo-stateful4/mcp`]));
  assert.ok((await page.locator('pre b').count()) >= 6);
  await page.reload();
  const chosen = await page.locator('input:checked').getAttribute('value');
  assert.deepEqual(await urls(), new Set([chosen]));
});

test('a snippet is copied as it stands, by keyboard, where there is no clipboard API', async () => {
  await open();
  assert.ok(await page.evaluate(() => !navigator.clipboard));
  await page.locator('label', { hasText: `${here()}/echo-stateful5/mcp` }).click();
  // The next stops are the buttons, in order.
  for (const name of await page.locator('h3').allTextContents()) {
    await page.keyboard.press('Tab');
    assert.equal(await page.locator(':focus').getAttribute('aria-label'), `Copy: ${name}`);
    await page.evaluate(() => {
      window.copied = '';
      addEventListener('copy', () => { window.copied = String(getSelection()); }, { once: true });
    });
    await page.keyboard.press('Enter');
    assert.equal(await page.locator('#said').textContent(), `Copied: ${name}`);
    const text = await snippet(name).textContent();
    assert.equal(await page.evaluate(() => window.copied), text);
    assert.ok(text.includes(`${here()}/echo-stateful5/mcp`));
  }
});

test('the way to the snippets and to /debug', async () => {
  await open();
  await page.keyboard.press('Tab');
  await page.locator('a:focus:has-text("Skip to the snippets")').waitFor();
  await page.keyboard.press('Enter');
  await page.waitForURL((url) => url.hash === '#snippets');
  await page.locator('a', { hasText: '/debug' }).click();
  await page.locator('#token').waitFor();
});

test('an instance has a page of its own, and no word of another', async () => {
  await open(3);
  const text = await page.locator('body').innerText();
  assert.match(text, /Instance 3/);
  assert.match(text, /any well-formed token/);
  assert.doesNotMatch(text, /Instance [^3]|stateful[^3\s]\d?\.|Front door|no token/);
  assert.deepEqual(await urls(), new Set([`${here(3)}/mcp`]));
  assert.equal(await page.locator('input:visible').count(), 0);
  assert.equal(await page.locator('button:visible').count(), 6);
});

test('without scripts all is there but the choice', async () => {
  const context = await browser.browser().newContext({ javaScriptEnabled: false });
  const still = await context.newPage();
  await still.goto(`${here()}/`);
  assert.equal(await still.locator('pre b').first().textContent(), `${here()}/mcp`);
  assert.equal(await still.locator('input:visible').count(), 0);
  assert.equal(await still.locator('button').count(), 0);
  await context.close();
});

for (const [name, width] of [['a phone', 320], ['a tablet', 800], ['a desk', 1600]]) {
  test(`nothing is cut off on ${name}`, async () => {
    await page.setViewportSize({ width, height: 800 });
    await open();
    const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok((await wide()) <= 0, `${await wide()} too wide`);
  });
}

for (const colorScheme of ['light', 'dark']) {
  test(`text can be read in ${colorScheme}`, async () => {
    await page.emulateMedia({ colorScheme });
    await open();
    const contrasts = await page.evaluate(() => {
      const light = (color) => {
        const [r, g, b] = color.match(/[\d.]+/g).map(Number).map((c) => c / 255)
          .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const back = (element) => {
        for (let at = element; at; at = at.parentElement) {
          const { backgroundColor } = getComputedStyle(at);
          if (backgroundColor !== 'rgba(0, 0, 0, 0)') return backgroundColor;
        }
        return 'rgb(255, 255, 255)';
      };
      return ['h1', 'header p', 'header a', '.what', 'th', 'td', 'code', 'pre', 'pre b', 'button'].map((selector) => {
        const element = document.querySelector(`main ${selector}, ${selector}`);
        const [one, other] = [light(getComputedStyle(element).color), light(back(element))].sort((a, b) => b - a);
        return [selector, (one + 0.05) / (other + 0.05)];
      });
    });
    for (const [selector, contrast] of contrasts) assert.ok(contrast >= 4.5, `${selector}: ${contrast}`);
  });
}
