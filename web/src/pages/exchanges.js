// @ts-check
import { html, useState } from '../html.js';
import { call, part } from '../api.js';
import { ask } from '../dialog.js';
import { firstOf, name, plural, quoted, rate, value } from '../format.js';
import { useBody, useLive } from '../live.js';
import { Chip, Facts, Head, Missing, Paged, Sorted, To, Unknown } from '../parts.js';
import { ask as askPlace, go, place } from '../route.js';
import { layers, route } from '../routing.js';

/** Bindings that are drawn; more would be a tangle. */
const DRAWN_MAX = 120;
const TYPES = ['direct', 'fanout', 'topic', 'headers'];
/** @param {string} exchange */
const shownName = (exchange) => (exchange === '' ? '(default exchange)' : name(exchange));
/** @param {string} exchange */
const pathName = (exchange) => (exchange === '' ? 'amq.default' : exchange);

/** @type {import('../parts.js').Column[]} */
const COLUMNS = [
  { key: 'vhost', title: 'vhost', of: (e) => name(e.vhost) },
  { key: 'name', title: 'name', of: (e) => html`<${To} to=${['exchanges', e.vhost, pathName(e.name)]}>${shownName(e.name)}<//>` },
  { key: 'type', title: 'type', of: (e) => name(e.type) },
  { key: 'durable', title: 'durable', of: (e) => (e.durable ? 'yes' : 'no') },
  { key: 'internal', title: 'internal', isExtra: true, of: (e) => (e.internal ? 'yes' : 'no') },
  { key: 'message_stats.publish_in_details.rate', title: 'in /s', number: true, of: (e) => (e.message_stats ? rate(e.message_stats.publish_in_details?.rate ?? 0) : null) },
  { key: 'message_stats.publish_out_details.rate', title: 'out /s', number: true, of: (e) => (e.message_stats ? rate(e.message_stats.publish_out_details?.rate ?? 0) : null) },
  { key: 'policy', title: 'policy', of: (e) => (e.policy ? name(e.policy) : null) },
];

export function Exchanges() {
  const { query } = place.value;
  const vhosts = (useBody('/api/vhosts?columns=name') ?? []).map((/** @type {any} */ v) => v.name);
  const declare = () => ask({
    title: 'New exchange',
    verb: 'Declare',
    fields: [
      { name: 'vhost', label: 'Virtual host', kind: 'choice', choices: vhosts, value: query.vhost || firstOf(vhosts) },
      { name: 'name', label: 'Name', required: true },
      { name: 'type', label: 'Type', kind: 'choice', choices: TYPES, value: 'topic' },
      { name: 'durable', label: 'Durable: it outlives a restart', kind: 'flag', value: true },
      { name: 'arguments', label: 'Arguments (JSON)', kind: 'area', value: '{}', hint: 'such as {"alternate-exchange": "lost"}' },
    ],
    run: async (v) => {
      await call('PUT', `/api/exchanges/${part(v.vhost)}/${part(v.name)}`, { type: v.type, durable: v.durable, arguments: JSON.parse(v.arguments) });
      go(['exchanges', v.vhost, v.name]);
      return 'Declared.';
    },
  });
  const filters = html`<label>vhost <select value=${query.vhost ?? ''} onChange=${(/** @type {any} */ e) => askPlace({ vhost: e.target.value, page: undefined })}>
    <option value="">all</option>${vhosts.map((/** @type {string} */ v) => html`<option value=${v}>${name(v)}</option>`)}</select></label>`;
  return html`
    <${Head} title="Exchanges" path="/api/exchanges?page=1&page_size=100" command="exchange ls" actions=${html`<button class="primary" onClick=${declare}>New exchange</button>`} />
    <${Paged} caption="Exchanges" file="exchanges" path=${(/** @type {any} */ q) => `/api/exchanges${q.vhost ? `/${part(q.vhost)}` : ''}`} columns=${COLUMNS} filters=${filters}
      keyOf=${(/** @type {any} */ e) => `${e.vhost} ${e.name}`} />`;
}

/** @param {{ parts: string[] }} props */
export function Exchange({ parts: [, vhost, asked] }) {
  const exchange = asked === 'amq.default' ? '' : asked;
  const path = `/api/exchanges/${part(vhost)}/${part(asked)}`;
  const known = useLive(path);
  const all = useBody(`/api/bindings/${part(vhost)}`);
  const exchanges = useBody(`/api/exchanges/${part(vhost)}`);
  const [test, setTest] = useState({ key: '', headers: '{}' });
  const title = html`<span class="name">${shownName(exchange)}</span> <small>in ${name(vhost)}</small>`;
  if (known?.status !== 200) return html`<${Head} title=${title} /><${Missing} of=${known} />`;
  const e = known.body;
  const bindings = all?.filter((/** @type {any} */ b) => b.source === exchange) ?? null;
  const toHere = all?.filter((/** @type {any} */ b) => b.destination_type === 'exchange' && b.destination === exchange) ?? [];
  let found = null;
  let wrong = '';
  try {
    found = all && exchanges ? route({ exchanges, bindings: all }, { exchange, key: test.key, headers: JSON.parse(test.headers || '{}') }) : null;
  } catch {
    wrong = 'The headers are no JSON.';
  }
  const publish = () => ask({
    title: 'Publish a message',
    verb: 'Publish',
    fields: [
      { name: 'key', label: 'Routing key', value: test.key },
      { name: 'payload', label: 'Body', kind: 'area' },
      { name: 'headers', label: 'Headers (JSON)', kind: 'area', value: test.headers },
      { name: 'persistent', label: 'Persistent', kind: 'flag', value: true },
    ],
    run: async (v) => {
      const { routed } = await call('POST', `${path}/publish`, { routing_key: v.key, payload: v.payload, payload_encoding: 'string', properties: { delivery_mode: v.persistent ? 2 : 1, headers: JSON.parse(v.headers) } });
      return routed ? 'Published and confirmed.' : 'Confirmed, but no queue wanted it.';
    },
  });
  const drop = () => ask({
    title: 'Delete the exchange?',
    danger: true,
    verb: 'Delete',
    text: html`<p>This deletes <b class="name">${shownName(exchange)}</b> and ${plural((bindings?.length ?? 0) + toHere.length, 'binding')}. Channels that publish to it are closed with an error.</p>`,
    run: async () => {
      await call('DELETE', path);
      go(['exchanges']);
      return 'Deleted.';
    },
  });
  const isFixed = exchange === '' || exchange.startsWith('amq.');
  return html`
    <${Head} title=${title} path=${path} command=${`exchange show ${quoted(asked)} --vhost ${quoted(vhost)}`}
      actions=${html`<button class="primary" onClick=${publish}>Publish</button>${!isFixed && html`<button class="danger" onClick=${drop}>Delete</button>`}`} />
    <${Unknown} of=${[known]} />
    <${Facts} of=${[['type', name(e.type)], ['durable', e.durable ? 'yes' : 'no'], ['internal', e.internal ? 'yes' : 'no'], ['policy', e.policy ? name(e.policy) : 'none'], ['alternate', e.arguments?.['alternate-exchange'] ? name(e.arguments['alternate-exchange']) : 'none'], ['arguments', value(e.arguments)]]} />
    <section class="card"><h2>Where would this message go?</h2>
      <div class="tools"><label class="filter"><span class="hidden">Routing key</span><input placeholder="routing key" value=${test.key} onInput=${(/** @type {any} */ ev) => setTest({ ...test, key: ev.target.value })} /></label>
        ${(e.type === 'headers' || toHere.length > 0) && html`<label>headers <input value=${test.headers} onInput=${(/** @type {any} */ ev) => setTest({ ...test, headers: ev.target.value })} /></label>`}
        <span role="status">${wrong || (found && (found.queues.length === 0 ? html`<${Chip} level="warn">nowhere: it would be returned or dropped<//>` : html`<${Chip} level="ok">${plural(found.queues.length, 'queue')}<//> ${found.queues.slice(0, 8).map((q) => html`<${To} to=${['queues', vhost, q]}>${q}<//> `)}`))}</span></div>
      <${Graph} vhost=${vhost} exchange=${exchange} all=${all ?? []} lit=${found} />
    </section>
    <section class="card"><h2>Bindings</h2>
      <${Sorted} caption="Bindings" file="bindings" rows=${bindings} keyOf=${(/** @type {any} */ b) => `${b.destination_type} ${b.destination} ${b.properties_key}`} hasFilter=${(bindings?.length ?? 0) > 10} empty="Nothing is bound: every message is returned or dropped." columns=${[
        { key: 'destination', title: 'to', of: (/** @type {any} */ b) => html`${b.destination_type} <${To} to=${[`${b.destination_type}s`, vhost, b.destination]}>${b.destination}<//>` },
        { key: 'routing_key', title: 'routing key', of: (/** @type {any} */ b) => html`<span class="name">${name(b.routing_key)}</span>` },
        { key: 'arguments', title: 'arguments', of: (/** @type {any} */ b) => value(b.arguments) },
      ]} /></section>`;
}

/** What is bound to an exchange, and what is bound to that. @param {{ vhost: string, exchange: string, all: any[], lit: any }} props */
function Graph({ vhost, exchange, all, lit }) {
  const reached = new Set([exchange]);
  /** @type {any[]} */ const drawn = [];
  for (const at of reached) {
    for (const b of all) {
      if (b.source !== at || drawn.length >= DRAWN_MAX) continue;
      drawn.push(b);
      if (b.destination_type === 'exchange') reached.add(b.destination);
    }
  }
  if (drawn.length === 0) return null;
  const id = (/** @type {string} */ type, /** @type {string} */ n) => `${type[0]} ${n}`;
  const edges = drawn.map((b) => ({ from: id('e', b.source), to: id(b.destination_type, b.destination), b }));
  const layer = layers(edges);
  /** @type {Map<string, { x: number, y: number }>} */ const at = new Map();
  const filled = /** @type {number[]} */ ([]);
  for (const [node, column] of layer) {
    filled[column] = (filled[column] ?? 0) + 1;
    at.set(node, { x: 10 + column * 300, y: 10 + (filled[column] - 1) * 44 });
  }
  const height = Math.max(...filled.map((n) => n ?? 0)) * 44 + 10;
  const width = filled.length * 300 - 80;
  const isLit = (/** @type {any} */ b) => lit?.bindings.includes(b);
  const lights = new Set(edges.filter(({ b }) => isLit(b)).flatMap(({ from, to }) => [from, to]));
  const cut = (/** @type {string} */ text) => (text.length > 26 ? `${text.slice(0, 25)}…` : text);
  return html`<div class="graph" tabindex="0" role="region" aria-label="Graph of bindings"><svg viewBox=${`0 0 ${width} ${height}`} style=${{ maxWidth: `${width}px` }} role="group" aria-label=${`${shownName(exchange)} leads to ${layer.size - 1} queues and exchanges; they are in the table below`}>
    ${edges.map(({ from, to, b }) => {
      const [a, z] = [at.get(from), at.get(to)];
      if (!a || !z) return null;
      const [x1, y1, x2, y2] = [a.x + 200, a.y + 16, z.x, z.y + 16];
      return html`<g><path class=${isLit(b) ? 'lit' : ''} d=${`M${x1} ${y1} C${x1 + 50} ${y1} ${x2 - 50} ${y2} ${x2} ${y2}`} />
        <text class="key" x=${x2 - 6} y=${y2 - 5} text-anchor="end">${cut(name(b.routing_key === '' ? ' ' : b.routing_key)).trim()}</text></g>`;
    })}
    ${[...at].map(([node, { x, y }]) => {
      const text = node.slice(2);
      const isQueue = node[0] === 'q';
      return html`<a href=${`#/${isQueue ? 'queues' : 'exchanges'}/${encodeURIComponent(vhost)}/${encodeURIComponent(isQueue ? text : pathName(text))}`}><g class=${lights.has(node) ? 'lit' : ''}>
        <title>${isQueue ? 'queue' : 'exchange'} ${name(text)}</title><rect class="node" x=${x} y=${y} width="200" height="32" rx=${isQueue ? 3 : 16} />
        <text x=${x + 12} y=${y + 21}>${cut(isQueue ? name(text) : shownName(text))}</text></g></a>`;
    })}</svg></div>${drawn.length >= DRAWN_MAX && html`<p class="dim">Only the first ${DRAWN_MAX} bindings are drawn.</p>`}`;
}
