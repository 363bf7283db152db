// @ts-check
import { html } from '../html.js';
import { call, part } from '../api.js';
import { ask } from '../dialog.js';
import { bytes, count, firstOf, name, rate } from '../format.js';
import { useBody } from '../live.js';
import { Chip, Head, Paged, To } from '../parts.js';
import { ask as askPlace, go, place } from '../route.js';

const TYPES = ['classic', 'quorum'];

/** @type {import('../parts.js').Column[]} */
const COLUMNS = [
  { key: 'vhost', title: 'vhost', of: (q) => name(q.vhost) },
  { key: 'name', title: 'name', of: (q) => html`<${To} to=${['queues', q.vhost, q.name]}>${q.name}<//>` },
  { key: 'type', title: 'type', of: (q) => html`${q.type}${q.exclusive ? ' exclusive' : ''}${q.durable ? '' : ' transient'}` },
  { key: 'state', title: 'state', of: (q) => html`<${State} of=${q.state} />` },
  { key: 'messages_ready', title: 'ready', number: true, of: (q) => count(q.messages_ready) },
  { key: 'messages_unacknowledged', title: 'unacked', number: true, of: (q) => count(q.messages_unacknowledged) },
  { key: 'messages', title: 'total', number: true, isExtra: true, of: (q) => count(q.messages) },
  { key: 'message_bytes', title: 'size', number: true, of: (q) => bytes(q.message_bytes) },
  { key: 'message_stats.publish_details.rate', title: 'in /s', number: true, of: (q) => (q.message_stats ? rate(q.message_stats.publish_details?.rate ?? 0) : null) },
  { key: 'message_stats.deliver_get_details.rate', title: 'out /s', number: true, of: (q) => (q.message_stats ? rate(q.message_stats.deliver_get_details?.rate ?? 0) : null) },
  { key: 'message_stats.ack_details.rate', title: 'ack /s', number: true, of: (q) => (q.message_stats ? rate(q.message_stats.ack_details?.rate ?? 0) : null) },
  { key: 'consumers', title: 'consumers', number: true, of: (q) => count(q.consumers) },
  { key: 'policy', title: 'policy', of: (q) => (q.policy ? name(q.policy) : null) },
  { key: 'node', title: 'leader', isExtra: true, of: (q) => (q.node ? name(q.node) : null) },
  { key: 'memory', title: 'memory', number: true, isExtra: true, of: (q) => bytes(q.memory) },
  { key: 'consumer_utilisation', title: 'utilisation', number: true, isExtra: true, of: (q) => (typeof q.consumer_utilisation === 'number' ? `${Math.round(q.consumer_utilisation * 100)} %` : null) },
];

/** @param {{ of: any }} props */
export function State({ of }) {
  const level = of === 'running' ? 'ok' : of === 'unknown' || of === undefined ? 'unknown' : of === 'down' ? 'bad' : 'warn';
  return html`<${Chip} level=${level}>${of ?? 'unknown'}<//>`;
}

export function Queues() {
  const { query } = place.value;
  const vhosts = useBody('/api/vhosts?columns=name') ?? [];
  const names = vhosts.map((/** @type {any} */ v) => v.name);
  const path = (/** @type {Record<string, string>} */ q) => `/api/queues${q.vhost ? `/${part(q.vhost)}` : ''}`;
  const filters = html`<label>vhost <select value=${query.vhost ?? ''} onChange=${(/** @type {any} */ e) => askPlace({ vhost: e.target.value, page: undefined })}>
    <option value="">all</option>${names.map((/** @type {string} */ v) => html`<option value=${v}>${name(v)}</option>`)}</select></label>
    ${choice('type', TYPES, query.type)} ${choice('state', ['running', 'down', 'unknown'], query.state)}`;
  return html`
    <${Head} title="Queues" path="/api/queues?page=1&page_size=100" command="queue ls"
      actions=${html`<button class="primary" onClick=${() => declare(names, query.vhost)}>New queue</button>`} />
    <${Paged} caption="Queues" file="queues" path=${path} columns=${COLUMNS} keyOf=${(/** @type {any} */ q) => `${q.vhost} ${q.name}`} filters=${filters}
      empty=${html`<p>No queues yet. A client declares one, or you do:</p><pre>staunch queue create orders</pre>`} />`;
}

/** @param {string} key @param {string[]} all @param {string} [chosen] */
export function choice(key, all, chosen) {
  return html`<label>${key} <select value=${chosen ?? ''} onChange=${(/** @type {any} */ e) => askPlace({ [key]: e.target.value, page: undefined })}>
    <option value="">any</option>${all.map((c) => html`<option value=${c}>${c}</option>`)}</select></label>`;
}

/** @param {string[]} vhosts @param {string} [vhost] */
function declare(vhosts, vhost) {
  ask({
    title: 'New queue',
    verb: 'Declare',
    fields: [
      { name: 'vhost', label: 'Virtual host', kind: 'choice', choices: vhosts, value: vhost || firstOf(vhosts) },
      { name: 'name', label: 'Name', required: true },
      { name: 'type', label: 'Type', kind: 'choice', choices: ['default', ...TYPES], value: 'default' },
      { name: 'durable', label: 'Durable: it and its messages outlive a restart', kind: 'flag', value: true },
      { name: 'arguments', label: 'Arguments (JSON)', kind: 'area', value: '{}', hint: 'such as {"x-max-length": 100000, "x-overflow": "reject-publish"}' },
    ],
    run: async (v) => {
      const args = JSON.parse(v.arguments);
      if (v.type !== 'default') args['x-queue-type'] = v.type;
      await call('PUT', `/api/queues/${part(v.vhost)}/${part(v.name)}`, { durable: v.durable, arguments: args });
      go(['queues', v.vhost, v.name]);
      return 'Declared.';
    },
  });
}
