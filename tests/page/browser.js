/** Chromium, and what it has to complain of. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { chromium } from 'playwright-core';

/** Starts it with a profile of its own, which goes when it is closed by what is returned beside it. */
export async function launch(width = 1280, height = 900) {
  const profile = await mkdtemp(path.join(tmpdir(), 'page-'));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM, headless: true, viewport: { width, height },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--no-proxy-server', '--host-resolver-rules=MAP *.example.test 127.0.0.1'],
  });
  const close = async () => {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { browser, close };
}

/** A new page. Errors, what stands in the console as one, and violated policies are added to the complaints. */
export async function openPage(browser, complaints) {
  const page = await browser.newPage();
  page.setDefaultTimeout(10000);
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await page.exposeFunction('complain', (text) => complaints.push(text));
  await page.addInitScript(() => addEventListener('securitypolicyviolation',
    (event) => window.complain(`policy violated: ${event.violatedDirective} ${event.blockedURI}`)));
  return page;
}
