// Makes the pictures in docs/screenshots: a demo runs, loses a node, and its pages are looked at.
// STAUNCH_BINARY names the program, the argument where the pictures go.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const out = process.argv[2] ?? '../../docs/screenshots';
const PATIENCE = 30_000;
/** What is shown: a name, a place, and what is waited for. */
const SHOWN = [
  ['overview', '', 'First at a limit'],
  ['queues', 'queues', 'staunch-proof-0'],
  ['queue', 'queues/%2F/staunch-proof-1', 'Horizon'],
  ['exchange', 'exchanges/%2F/shop', 'Where would this message go?'],
  ['dead-letters', 'dead-letters/%2F/dead', 'Why and where they died'],
  ['horizon', 'horizon', 'Horizon'],
  ['cluster', 'cluster', 'Failovers'],
  ['failovers', 'failovers', 'What has happened'],
];

mkdirSync(out, { recursive: true });
const demo = spawn(process.env.STAUNCH_BINARY, ['demo', '--duration', '240'], { stdio: ['ignore', 'ignore', 'pipe'] });
let said = '';
const pages = await new Promise((resolve, reject) => {
  demo.stderr.on('data', (text) => {
    said += text;
    const told = said.match(/^to watch \(guest, guest\): (.*)\n/m);
    if (told) resolve(told[1].split(' '));
  });
  demo.on('exit', () => reject(new Error(said)));
});
const ended = new Promise((resolve) => demo.on('exit', resolve));
/** The demo says whom it strikes. */
const heard = (what) => new Promise((resolve) => {
  const look = () => {
    const found = said.match(what);
    if (found) resolve(found);
  };
  demo.stderr.on('data', look);
  look();
});

async function api(at, method, path, body) {
  const response = await fetch(`${at}api${path}`, {
    method,
    headers: { authorization: `Basic ${Buffer.from('guest:guest').toString('base64')}` },
    body: JSON.stringify(body),
  });
  if (response.status >= 400) throw new Error(`${method} ${path}: ${await response.text()}`);
}

async function furnish(at) {
  await api(at, 'PUT', '/exchanges/%2F/shop', { type: 'topic', durable: true });
  await api(at, 'PUT', '/exchanges/%2F/audit', { type: 'fanout', durable: true });
  for (const [queue, keys] of Object.entries({ orders: ['order.#'], invoices: ['order.paid'], mail: ['order.paid', 'order.sent'], stock: ['order.*.item'] })) {
    await api(at, 'PUT', `/queues/%2F/${queue}`, { durable: true, arguments: { 'x-queue-type': 'quorum', 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' } });
    for (const key of keys) await api(at, 'POST', `/bindings/%2F/e/shop/q/${queue}`, { routing_key: key });
  }
  for (const queue of ['archive', 'dead']) await api(at, 'PUT', `/queues/%2F/${queue}`, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await api(at, 'POST', '/bindings/%2F/e/audit/q/archive', { routing_key: '' });
  await api(at, 'POST', '/bindings/%2F/e/shop/e/audit', { routing_key: '#' });
  for (let n = 0; n < 12; n += 1) {
    const key = n % 3 === 0 ? 'order.paid' : 'order.sent';
    await api(at, 'POST', '/exchanges/%2F/shop/publish', { routing_key: key, payload: `{"order": ${4711 + n}}`, payload_encoding: 'string', properties: { delivery_mode: 2, expiration: '1000' } });
  }
}

async function shoot(browser, at, shown) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, deviceScaleFactor: 1.25 });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(at);
  await page.getByLabel('User').fill('guest');
  await page.getByLabel('Password').fill('guest');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  for (const [name, place, awaited] of shown) {
    await page.goto(`${at}#/${place}`);
    await page.locator('main').getByText(awaited).first().waitFor();
    await page.locator('[data-fresh="yes"]').waitFor({ state: 'attached' });
    if (name === 'exchange') await page.getByPlaceholder('routing key').fill('order.paid');
    if (name === 'dead-letters') {
      await page.getByRole('button', { name: 'Look' }).click();
      await page.getByText('looked at').first().waitFor();
    }
    // Once round, so that what moves has moved.
    await page.waitForTimeout(1500);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await page.locator(`html[data-theme="${colorScheme}"]`).waitFor({ state: 'attached' });
      await page.waitForTimeout(300);
      await page.screenshot({ path: join(out, `${name}-${colorScheme}.png`) });
    }
  }
  await context.close();
}

const browser = await chromium.launch({ executablePath: process.env.STAUNCH_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
await furnish(pages[0]);
const [, struck] = await heard(/kill -9 n(\d)/);
// Another is paused after that, and is back too.
await heard(/is back and catches up(.|\n)*is back and catches up/);
const at = pages[Number(struck) % pages.length];
await shoot(browser, at, SHOWN);
await browser.close();
demo.kill('SIGINT');
await ended;
