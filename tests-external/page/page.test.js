// The page in a browser, against the real binary: STAUNCH_BINARY names it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';

const BINARY = process.env.STAUNCH_BINARY;
const CHROMIUM = process.env.STAUNCH_CHROMIUM ?? '/usr/bin/chromium';
/** Whatever is waited for comes within this, milliseconds. */
const PATIENCE = 40_000;
/** What a first load may transfer. */
const FIRST_LOAD_SIZE_BYTES_MAX = 150_000;
const HOSTILE = ['<img src=x onerror=alert(1)>', `rtl\u202eabc`, `"'&<b>;--`, 'x'.repeat(255)];
const PLACES = [
  '', 'horizon', 'queues', 'dead-letters', 'exchanges', 'connections', 'channels', 'consumers', 'cluster', 'failovers', 'policies', 'vhosts',
  'users', 'definitions', 'queues/%2F/orders', 'exchanges/%2F/shop', 'dead-letters/%2F/dead',
];

let node, base, browser, data;

/** A port that nothing listens on. */
function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

async function api(method, path, body) {
  const response = await fetch(base + path, {
    method,
    headers: { authorization: `Basic ${Buffer.from('guest:guest').toString('base64')}` },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.status < 400, `${method} ${path}: ${response.status} ${text}`);
  return text === '' ? null : JSON.parse(text);
}

const part = encodeURIComponent;

/** A page that must not complain. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on('console', (m) => {
    // Who is not in yet is told so.
    if (m.type() === 'error' && !m.text().includes('401')) wrong.push(m.text());
  });
  page.on('pageerror', (e) => wrong.push(String(e)));
  page.on('requestfailed', (r) => {
    if (r.failure()?.errorText !== 'net::ERR_ABORTED') wrong.push(`${r.url()} ${r.failure()?.errorText}`);
  });
  page.on('dialog', (d) => {
    wrong.push(`dialog: ${d.message()}`);
    d.dismiss();
  });
  return { context, page, wrong };
}

async function logIn(page, at = base) {
  await page.goto(at);
  await page.getByLabel('User').fill('guest');
  await page.getByLabel('Password').fill('guest');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
}

async function go(page, place) {
  await page.goto(`${base}/#/${place}`);
  await page.locator('h1').waitFor();
}

before(async () => {
  data = mkdtempSync(join(tmpdir(), 'staunch-page-'));
  const [amqp, http, metrics] = [await freePort(), await freePort(), await freePort()];
  base = `http://127.0.0.1:${http}`;
  const local = (port) => `127.0.0.1:${port}`;
  node = spawn(BINARY, ['server', '--data-dir', data, '--amqp', local(amqp), '--http', local(http), '--metrics', local(metrics)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve, reject) => {
    node.stdout.on('data', (text) => {
      if (String(text).includes('Server startup complete')) resolve();
    });
    node.on('exit', (code) => reject(new Error(`the node ended with ${code}`)));
  });
  await api('PUT', '/api/queues/%2F/orders', { durable: true, arguments: { 'x-max-length': 100_000 } });
  await api('PUT', '/api/queues/%2F/dead', { durable: true });
  await api('PUT', '/api/queues/%2F/brief', { durable: true, arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' } });
  await api('PUT', '/api/exchanges/%2F/shop', { type: 'topic', durable: true });
  await api('POST', '/api/bindings/%2F/e/shop/q/orders', { routing_key: 'order.#' });
  for (const name of HOSTILE) {
    await api('PUT', `/api/queues/%2F/${part(name)}`, { durable: true });
    await api('PUT', `/api/exchanges/%2F/${part(name)}`, { type: 'fanout', durable: true });
    await api('POST', `/api/bindings/%2F/e/${part(name)}/q/${part(name)}`, { routing_key: name });
    await api('PUT', `/api/policies/%2F/${part(name)}`, { pattern: '^nothing$', definition: { 'max-length': 5 }, 'apply-to': 'queues' });
    await api('PUT', `/api/users/${part(name)}`, { password: 'p', tags: ['management'] });
    await api('PUT', `/api/vhosts/${part(name.slice(0, 200))}`, { description: name });
  }
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
});

after(async () => {
  await browser?.close();
  node.removeAllListeners('exit');
  const ended = new Promise((resolve) => node.on('exit', resolve));
  node.kill('SIGTERM');
  await ended;
  rmSync(data, { recursive: true, force: true });
});

test('every page loads without an error, in both themes, and axe finds nothing serious', async () => {
  let slowest = 0;
  for (const colorScheme of ['light', 'dark']) {
    const { context, page, wrong } = await open({ colorScheme });
    await logIn(page);
    for (const place of PLACES) {
      const began = performance.now();
      await go(page, place);
      await page.locator('[data-fresh="yes"]').waitFor({ state: 'attached' });
      slowest = Math.max(slowest, performance.now() - began);
      const { violations } = await new AxeBuilder({ page }).analyze();
      const bad = violations.filter((v) => ['serious', 'critical'].includes(v.impact));
      assert.deepEqual(bad.map((v) => `${v.id}: ${v.nodes[0].html}`), [], `${colorScheme} ${place}`);
    }
    assert.deepEqual(wrong, []);
    await context.close();
  }
  console.log(`the slowest of ${2 * PLACES.length} pages was there after ${Math.round(slowest)} ms`);
});

test('the first load is small, and names no other host', async () => {
  const { context, page } = await open();
  let size = 0;
  const hosts = new Set();
  const sizes = [];
  page.on('response', (response) => {
    hosts.add(new URL(response.url()).origin);
    sizes.push(response.request().sizes().then((s) => { size += s.responseBodySize + s.responseHeadersSize; }));
  });
  await page.goto(base);
  await page.getByLabel('User').waitFor();
  await Promise.all(sizes);
  assert.ok(size > 10_000 && size < FIRST_LOAD_SIZE_BYTES_MAX, `${size} bytes`);
  assert.deepEqual([...hosts], [base]);
  console.log(`first load: ${size} bytes in ${sizes.length} requests`);
  await context.close();
});

test('the page is strict with itself', async () => {
  const response = await fetch(base, { headers: { 'accept-encoding': 'gzip' } });
  const policy = response.headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
  assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
  assert.equal(response.headers.get('x-frame-options'), 'DENY');
  const text = await response.text();
  const start = text.match(/src="\.\/(assets\/src\/start\.[^"]+)"/)[1];
  const script = await fetch(`${base}/${start}`, { headers: { 'accept-encoding': 'identity' } });
  assert.equal(script.headers.get('content-encoding'), null);
  assert.match(await script.text(), /render/);
  assert.ok(gunzipSync);
});

test('names are text wherever they are listed', async () => {
  const { context, page, wrong } = await open();
  await logIn(page);
  for (const place of ['queues', 'exchanges', 'policies', 'users', 'vhosts']) {
    await go(page, place);
    await page.locator('tbody').getByText('<img src=x onerror=alert(1)>').first().waitFor();
    await page.locator('tbody').getByText('rtl⟨U+202E⟩abc').first().waitFor();
    assert.equal(await page.locator('main img').count(), 0, place);
  }
  for (const name of HOSTILE) {
    await go(page, `queues/%2F/${part(name)}`);
    await page.getByText('Nothing waits.').waitFor();
    await go(page, `exchanges/%2F/${part(name)}`);
    await page.getByRole('heading', { name: 'Where would this message go?' }).waitFor();
    assert.equal(await page.locator('main img').count(), 0, name);
  }
  assert.deepEqual(wrong, []);
  await context.close();
});

test('a message is published and read, and purged after a word in numbers', async () => {
  const { context, page, wrong } = await open();
  await logIn(page);
  await go(page, 'queues/%2F/orders');
  await page.getByRole('button', { name: 'Publish' }).click();
  await page.getByLabel('Body').fill('{"apples": 42}');
  await page.locator('dialog').getByRole('button', { name: 'Publish' }).click();
  await page.getByText('Published and confirmed.').waitFor();
  await page.getByRole('button', { name: 'Look' }).click();
  await page.getByText('"apples": 42').waitFor();
  await page.getByRole('button', { name: 'Purge' }).click();
  await page.locator('dialog').getByText('1 message', { exact: true }).waitFor();
  await page.locator('dialog').getByRole('button', { name: 'Purge' }).click();
  await page.getByText('Nothing waits.').waitFor();
  assert.equal((await api('GET', '/api/queues/%2F/orders')).messages, 0);
  assert.deepEqual(wrong, []);
  await context.close();
});

test('a policy is tried, made, and seen applied', async () => {
  const { context, page, wrong } = await open();
  await logIn(page);
  await go(page, 'policies');
  await page.getByRole('button', { name: 'New policy' }).click();
  await page.getByLabel('Name', { exact: true }).fill('short');
  await page.getByLabel('Pattern of names').fill('^ord');
  await page.getByText('1 queue', { exact: true }).waitFor();
  await page.getByLabel('Definition').fill('{"max-length": 500}');
  await page.getByRole('button', { name: 'Apply' }).click();
  await page.getByText('max-length: 500').waitFor();
  await go(page, 'queues/%2F/orders');
  await page.getByRole('link', { name: 'short' }).waitFor();
  assert.deepEqual(wrong, []);
  await context.close();
});

test('a dead letter is looked at and replayed', async () => {
  const message = { routing_key: 'brief', payload: 'late', payload_encoding: 'string', properties: { expiration: '0', delivery_mode: 2 } };
  await api('POST', '/api/exchanges/%2F/amq.default/publish', message);
  const { context, page, wrong } = await open();
  await logIn(page);
  await go(page, 'dead-letters');
  await page.locator('tbody').getByRole('link', { name: 'dead', exact: true }).click();
  await page.getByRole('button', { name: 'Look' }).click();
  await page.getByText('their time was up').waitFor();
  await page.getByRole('button', { name: 'replay', exact: true }).click();
  const dialog = page.locator('dialog');
  await dialog.getByRole('button', { name: 'Begin' }).click();
  await page.locator('tbody tr', { hasText: 'replay (dry run)' }).getByText('done').waitFor();
  assert.equal((await api('GET', '/api/queues/%2F/brief')).messages, 0, 'a dry run moves nothing');
  await page.getByRole('button', { name: 'replay', exact: true }).click();
  await dialog.getByLabel('Dry run').uncheck();
  await dialog.getByRole('button', { name: 'Begin' }).click();
  await page.locator('tbody tr', { hasText: 'replay dead' }).getByText('1 of 1').waitFor();
  assert.equal((await api('GET', '/api/queues/%2F/brief')).messages, 1);
  assert.deepEqual(wrong, []);
  await context.close();
});

test('the failover timeline fills while a demo kills a node that leads', async () => {
  const demo = spawn(BINARY, ['demo', '--duration', '20'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const isOver = new Promise((resolve) => demo.on('exit', resolve));
  let said = '';
  const pages = await new Promise((resolve, reject) => {
    demo.stderr.on('data', (text) => {
      said += text;
      const told = said.match(/^to watch \(guest, guest\): (.*)\n/m);
      if (told) resolve(told[1].split(' '));
    });
    demo.on('exit', () => reject(new Error(said)));
  });
  assert.equal(pages.length, 3);
  // Whichever node is killed, the pages of the others go on.
  const contexts = [];
  const watching = pages.map(async (at) => {
    const { context, page } = await open();
    contexts.push(context);
    await logIn(page, at);
    await page.goto(`${at}#/failovers`);
    await page.getByText('a node asked for votes').first().waitFor();
    await page.getByText('the first message was confirmed again').first().waitFor();
    await page.locator('.timeline').first().waitFor();
    await page.getByText('node.suspected').first().waitFor();
  });
  await Promise.any(watching);
  assert.equal(await isOver, 0, said);
  await Promise.allSettled(watching);
  await Promise.all(contexts.map((context) => context.close()));
});

test('the page says where a message would go, and the node agrees', async () => {
  const { context, page, wrong } = await open();
  await logIn(page);
  await go(page, 'exchanges/%2F/shop');
  const key = page.getByPlaceholder('routing key');
  await key.fill('order.made');
  await page.getByRole('status').getByText('1 queue').waitFor();
  await key.fill('other');
  await page.getByText('nowhere: it would be returned or dropped').waitFor();
  const { routed } = await api('POST', '/api/exchanges/%2F/shop/publish', { routing_key: 'other', payload: '', payload_encoding: 'string', properties: {} });
  assert.equal(routed, false);
  assert.deepEqual(wrong, []);
  await context.close();
});

test('lists are filtered and sorted, and the address remembers how', async () => {
  const { context, page, wrong } = await open();
  await logIn(page);
  await go(page, 'queues');
  await page.locator('tbody tr').nth(1).waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('ord');
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
  await page.getByRole('button', { name: 'ready' }).click();
  assert.match(page.url(), /name=ord/);
  assert.match(page.url(), /sort=messages_ready/);
  await page.reload();
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
  assert.deepEqual(wrong, []);
  await context.close();
});

test('charts move while messages come', async () => {
  const { context, page, wrong } = await open();
  await logIn(page);
  await go(page, 'queues/%2F/orders');
  const chart = page.getByRole('img', { name: /^Messages kept/ });
  await chart.waitFor();
  const message = { routing_key: 'orders', payload: 'x', payload_encoding: 'string', properties: {} };
  let isOver = false;
  const load = (async () => {
    for (let n = 0; n < 2000 && !isOver; n += 1) await api('POST', '/api/exchanges/%2F/amq.default/publish', message);
  })();
  await page.waitForFunction(() => {
    const drawn = document.querySelector('[aria-label^="Messages a second"]');
    return Number(drawn?.getAttribute('data-points')) > 0 && Number(drawn?.getAttribute('data-last')?.split(' ')[0]) > 0;
  });
  isOver = true;
  await load;
  assert.deepEqual(wrong, []);
  await context.close();
});

test('definitions are compared before they are applied', async () => {
  const { context, page, wrong } = await open();
  await logIn(page);
  await go(page, 'definitions');
  const wanted = { queues: [{ vhost: '/', name: 'imported', durable: true, auto_delete: false, arguments: {} }] };
  await page.getByLabel('A definitions file').setInputFiles({ name: 'd.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(wanted)) });
  await page.getByText('1 object added').waitFor();
  await page.getByRole('button', { name: 'Apply 1 change' }).click();
  await page.getByText('Applied.').waitFor();
  assert.equal((await api('GET', '/api/queues/%2F/imported')).name, 'imported');
  assert.deepEqual(wrong, []);
  await context.close();
});

test('a phone can be used', async () => {
  const { context, page, wrong } = await open({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });
  await logIn(page);
  for (const place of PLACES) {
    await go(page, place);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 390, `${place}: ${width} px`);
  }
  assert.deepEqual(wrong, []);
  await context.close();
});

test('logging out ends the session, there and here', async () => {
  const { context, page, wrong } = await open();
  await logIn(page);
  const [cookie] = await context.cookies();
  assert.ok(cookie.httpOnly && cookie.sameSite === 'Strict');
  const ask = (method, headers) => fetch(`${base}/api/vhosts`, { method, headers: { cookie: `${cookie.name}=${cookie.value}`, ...headers } });
  assert.equal((await ask('GET')).status, 200);
  const forged = await fetch(`${base}/api/vhosts/forged`, { method: 'PUT', headers: { cookie: `${cookie.name}=${cookie.value}` } });
  assert.equal(forged.status, 401, 'a change without the token is refused');
  await page.getByRole('button', { name: 'log out' }).click();
  await page.getByText('You have logged out.').waitFor();
  assert.equal((await ask('GET')).status, 401);
  assert.equal((await fetch(`${base}/api/vhosts`, { headers: { 'x-requested-with': 'staunch-page' } })).headers.get('www-authenticate'), null);
  assert.deepEqual(wrong, []);
  await context.close();
});
