// @ts-check
/** The frame of all pages: where one is, how old what is shown is, keys. */
import { html, signal, useEffect, useRef } from './html.js';
import { logOut, may, session } from './api.js';
import { Dialogs, act } from './dialog.js';
import { name } from './format.js';
import { forget, heard, now, open, paused, useBody, way } from './live.js';
import { go, link, place } from './route.js';
import { choice, turn } from './theme.js';
import { DeadLetterQueue, DeadLetters } from './pages/deadletters.js';
import { Login } from './pages/login.js';
import { Overview } from './pages/overview.js';
import { Queues } from './pages/queues.js';
import { Queue } from './pages/queue.js';
import { Connection, Connections } from './pages/connections.js';
import { Channels, Consumers } from './pages/channels.js';
import { Exchange, Exchanges } from './pages/exchanges.js';
import { Horizon } from './pages/horizon.js';
import { Cluster } from './pages/cluster.js';
import { Failovers } from './pages/failovers.js';
import { Policies } from './pages/policies.js';
import { Vhosts } from './pages/vhosts.js';
import { Users } from './pages/users.js';
import { Definitions } from './pages/definitions.js';

/**
 * Every page: its path, what it is called, the key after `g` that leads there, who may see it.
 * @type {{ path: string, title: string, key: string, page: any, one?: any, tags?: string[] }[]}
 */
const PAGES = [
  { path: '', title: 'Overview', key: 'o', page: Overview },
  { path: 'horizon', title: 'Horizon', key: 'h', page: Horizon, tags: ['monitoring', 'administrator'] },
  { path: 'queues', title: 'Queues', key: 'q', page: Queues, one: Queue },
  { path: 'dead-letters', title: 'Dead letters', key: 'x', page: DeadLetters, one: DeadLetterQueue },
  { path: 'exchanges', title: 'Exchanges', key: 'e', page: Exchanges, one: Exchange },
  { path: 'connections', title: 'Connections', key: 'c', page: Connections, one: Connection },
  { path: 'channels', title: 'Channels', key: 'l', page: Channels },
  { path: 'consumers', title: 'Consumers', key: 'k', page: Consumers },
  { path: 'cluster', title: 'Cluster', key: 'n', page: Cluster, tags: ['monitoring', 'administrator'] },
  { path: 'failovers', title: 'Failovers', key: 'f', page: Failovers, tags: ['monitoring', 'administrator'] },
  { path: 'policies', title: 'Policies', key: 'p', page: Policies, tags: ['policymaker', 'administrator'] },
  { path: 'vhosts', title: 'Virtual hosts', key: 'v', page: Vhosts },
  { path: 'users', title: 'Users', key: 'u', page: Users, tags: ['administrator'] },
  { path: 'definitions', title: 'Definitions', key: 'd', page: Definitions, tags: ['administrator'] },
];

/** Older than this is stale, seconds. */
const STALE_AFTER = 8;
const isHelping = signal(false);
let isGoing = false;

export function Shell() {
  if (session.value === undefined) return html`<p class="dim wait" role="status">One moment…</p>`;
  return session.value === null ? html`<${Outside} />` : html`<${Frame} />`;
}

function Outside() {
  useEffect(forget, []);
  return html`<${Login} />`;
}

function Frame() {
  const { parts } = place.value;
  const found = PAGES.find(({ path }) => path === (parts[0] ?? ''));
  const seen = PAGES.filter(({ tags }) => !tags || may(...tags));
  const Page = parts.length > 1 && found?.one ? found.one : found?.page;
  useEffect(() => {
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  }, []);
  useEffect(() => {
    document.title = `${parts.length > 1 ? `${name(parts.at(-1))} - ` : ''}${found?.title ?? 'Staunch'} - Staunch`;
    window.scrollTo(0, 0);
  }, [parts.join('/')]);
  return html`
    <a class="skip" href="#content" onClick=${(/** @type {Event} */ e) => { e.preventDefault(); document.getElementById('content')?.focus(); }}>To the content</a>
    <header class="top">
      <a class="brand" href=${link([])}><svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M8 9h16M8 16h16M8 23h10" /></svg> Staunch</a>
      <${ClusterName} />
      <span class="grow"></span>
      <${Freshness} />
      <button class="quiet" onClick=${turn} title="Theme: system, light, dark">theme: ${choice.value}</button>
      <button class="quiet" aria-label="Help: keys" onClick=${() => { isHelping.value = true; }}>?</button>
      <span class="who">${name(session.value?.user)}</span>
      <button class="quiet" onClick=${() => act(logOut, 'You are logged out.')}>log out</button>
    </header>
    <nav class="pages-nav" aria-label="Pages of the site">${seen.map(({ path, title }) => html`
      <a href=${link(path ? [path] : [])} aria-current=${found?.path === path ? 'page' : undefined}>${title}</a>`)}</nav>
    <main id="content" tabindex="-1">${Page ? html`<${Page} key=${parts.join('/')} parts=${parts} />` : html`<h1>There is no such page.</h1>`}</main>
    <${Dialogs} />
    ${isHelping.value && html`<${Help} pages=${seen} />`}`;
}

function ClusterName() {
  const overview = useBody(may('monitoring', 'administrator') ? '/api/cluster-name' : null);
  return overview?.name ? html`<span class="cluster">${name(overview.name)}</span>` : null;
}

function Freshness() {
  const age = heard.value === 0 ? null : Math.max(0, Math.round((now.value - heard.value) / 1000));
  const isStale = !paused.value && (age === null || age > STALE_AFTER || way.value === 'lost');
  const text = paused.value ? `paused, ${age ?? 0} s old` : age === null ? 'nothing heard yet' : isStale ? `stale: ${age} s old` : `live, ${age} s`;
  document.documentElement.dataset.fresh = isStale || paused.value ? 'no' : 'yes';
  return html`<button class=${`fresh ${isStale ? 'stale' : ''}`} aria-pressed=${paused.value} onClick=${() => { paused.value = !paused.value; open(); }}
    title=${way.value === 'stream' ? 'Told by the node as it changes. Click to pause.' : 'Asked every two seconds. Click to pause.'}>
    <span class="dot" aria-hidden="true"></span>${text}</button>`;
}

/** @param {{ pages: typeof PAGES }} props */
function Help({ pages }) {
  const dialog = useRef(/** @type {any} */ (null));
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog ref=${dialog} onClose=${() => { isHelping.value = false; }} aria-labelledby="keys">
    <form method="dialog"><h2 id="keys">Keys</h2>
      <dl class="keys"><div><dt><kbd>/</kbd></dt><dd>filter the list</dd></div><div><dt><kbd>?</kbd></dt><dd>these keys</dd></div>
        <div><dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>the next and the previous row</dd></div><div><dt><kbd>t</kbd></dt><dd>theme</dd></div>
        ${pages.map(({ title, key }) => html`<div><dt><kbd>g</kbd> <kbd>${key}</kbd></dt><dd>${title}</dd></div>`)}</dl>
      <div class="buttons"><button>Close</button></div></form></dialog>`;
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || !session.value) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || document.querySelector('dialog[open]')) return;
  if (isGoing) {
    isGoing = false;
    const page = PAGES.find(({ key }) => key === event.key);
    if (page) go(page.path ? [page.path] : []);
    return;
  }
  if (event.key === 'g') isGoing = true;
  else if (event.key === '?') isHelping.value = true;
  else if (event.key === 't') turn();
  else if (event.key === 'j' || event.key === 'k') step(event.key === 'j' ? 1 : -1);
  else if (event.key === '/') {
    const filter = /** @type {HTMLElement | null} */ (document.querySelector('#filter, .filter input'));
    if (!filter) return;
    event.preventDefault();
    filter.focus();
  }
}

/** Focus to the link of another row. @param {number} by */
function step(by) {
  const links = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('tbody tr a:first-of-type')]);
  const at = links.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  links[Math.max(0, Math.min(links.length - 1, at + by))]?.focus();
}
