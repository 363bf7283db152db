// @ts-check
import { html, useState } from '../html.js';
import { call, may, part } from '../api.js';
import { Bar, Chart } from '../chart.js';
import { ask } from '../dialog.js';
import { bytes, count, gauge, limitName, name, outcome, plural, quoted, rate, ratesOf, short, span, value } from '../format.js';
import { useBody, useLive } from '../live.js';
import { Chip, copy, Facts, Head, Missing, Sorted, Table, To, Unknown } from '../parts.js';
import { go } from '../route.js';
import { PAST } from './overview.js';
import { State } from './queues.js';

/** @typedef {import('../../types/openapi').components['schemas']} Api */

/** @param {{ parts: string[] }} props */
export function Queue({ parts: [, vhost, queue] }) {
  const path = `/api/queues/${part(vhost)}/${part(queue)}`;
  const known = useLive(`${path}?${PAST}`);
  const horizonKnown = useLive(`/api/staunch/v1/horizon/queues/${part(vhost)}/${part(queue)}`);
  const bindings = useBody(`${path}/bindings`);
  const replicas = useBody(`/api/staunch/v1/queues/${part(vhost)}/${part(queue)}/replicas`);
  const title = html`<span class="name">${name(queue)}</span> <small>in ${name(vhost)}</small>`;
  if (known?.status !== 200) return html`<${Head} title=${title} /><${Missing} of=${known} />`;
  const q = known.body;
  const horizon = horizonKnown?.status === 200 ? horizonKnown.body : null;
  const { level, text } = told(q, horizon);
  const stats = q.message_stats ?? {};
  const details = q.messages_ready_details ? q : {};
  return html`
    <${Head} title=${title} verdict=${text} level=${level} path=${path} command=${`queue show ${quoted(queue)} --vhost ${quoted(vhost)}`}
      actions=${html`<${Actions} q=${q} path=${path} />`} />
    <${Unknown} of=${[known]} />
    <${Facts} of=${[
      ['state', html`<${State} of=${q.state} />`],
      ['type', `${q.type}${q.durable ? ', durable' : ', transient'}${q.exclusive ? ', exclusive' : ''}${q.auto_delete ? ', auto-delete' : ''}`],
      ['ready', count(q.messages_ready)],
      ['unacknowledged', count(q.messages_unacknowledged)],
      ['size', bytes(q.message_bytes)],
      ['in', `${rate(stats.publish_details?.rate ?? 0)} /s`],
      ['out', `${rate(stats.deliver_get_details?.rate ?? 0)} /s`],
      ['consumers', count(q.consumers)],
      ['policy', q.policy ? html`<a href="#/policies">${name(q.policy)}</a>` : 'none'],
      ['serves it', q.node ? name(q.node) : undefined],
    ]} />
    <div class="halves">
      <section class="card"><${Chart} title="Messages a second" unit=${short} series=${[
        { label: 'publish', data: ratesOf(stats.publish_details), color: '--c1' },
        { label: 'deliver', data: ratesOf(stats.deliver_get_details), color: '--c2', dash: [6, 3] },
        { label: 'acknowledge', data: ratesOf(stats.ack_details), color: '--c3', dash: [2, 3] },
      ]} /></section>
      <section class="card"><${Chart} title="Messages kept" unit=${short} series=${[
        { label: 'ready', data: gauge(details.messages_ready_details), color: '--c4' },
        { label: 'unacknowledged', data: gauge(details.messages_unacknowledged_details), color: '--c5', dash: [6, 3] },
      ]} /></section>
    </div>
    <div class="halves">
      <section class="card"><h2>Horizon <a href="#/horizon">what if</a></h2><${HorizonCard} known=${horizonKnown} /></section>
      <section class="card"><h2>Replicas</h2><${Replicas} of=${replicas} path=${`/api/staunch/v1/queues/${part(vhost)}/${part(queue)}/replicas`} /></section>
    </div>
    <section class="card"><h2>Messages</h2><${Messages} path=${path} /></section>
    <section class="card"><h2>Consumers</h2><${Consumers} rows=${q.consumer_details ?? []} /></section>
    <section class="card"><h2>Bindings</h2><${Bindings} rows=${bindings} vhost=${vhost} queue=${queue} /></section>
    <section class="card"><h2>Settings</h2><div class="halves"><${Arguments} title="Arguments" of=${q.arguments} /><${Arguments} title="By policy" of=${q.effective_policy_definition} /></div></section>`;
}

/** The queue in a sentence. @param {any} q @param {any} horizon */
function told(q, horizon) {
  if (q.state === 'down' || q.state === 'unknown') return { level: q.state === 'down' ? 'bad' : 'unknown', text: q.state === 'down' ? 'Nobody serves this queue.' : 'The node that serves this queue does not answer.' };
  const now = horizon?.horizon.now;
  if (horizon?.is_slo_met === false) return { level: 'warn', text: `Below its horizon of ${span(horizon.slo_seconds)}: ${outcome(now.outcome)} in ${span(now.seconds)} (${limitName(now.limit)}).` };
  if (now && typeof now.seconds === 'number') return { level: now.seconds < 1800 ? 'warn' : 'ok', text: `At this rate ${outcome(now.outcome)} in ${span(now.seconds)} (${limitName(now.limit)}).` };
  if (q.messages_ready > 0 && q.consumers === 0) return { level: 'warn', text: `${plural(q.messages_ready, 'message')} and no consumer.` };
  return { level: 'ok', text: q.messages_ready === 0 ? 'Nothing waits.' : `${plural(q.messages_ready, 'message waits', 'messages wait')}; no limit is near.` };
}

/** @param {{ known: any }} props */
function HorizonCard({ known }) {
  if (known?.status !== 200) return html`<${Missing} of=${known} />`;
  const h = known.body;
  const rows = /** @type {[string, string][]} */ ([['now', 'at the rate of the last minute'], ['stress', 'at a rate that is rarely passed'], ['peak', 'at the highest rate there was']])
    .map(([key, hint]) => ({ key, hint, ...h.horizon[key] }));
  return html`
    <${Table} caption="Horizon" rows=${rows} keyOf=${(/** @type {any} */ r) => r.key} columns=${[
      { key: 'key', title: 'if it goes on', of: (/** @type {any} */ r) => html`<span title=${r.hint}>${r.key}</span>` },
      { key: 'seconds', title: 'lasts', number: true, of: (/** @type {any} */ r) => html`<b>${span(r.seconds)}</b>` },
      { key: 'interval', title: '80 % interval', number: true, of: (/** @type {any} */ r) => (r.seconds === null ? '–' : `${span(r.low_seconds)} – ${span(r.high_seconds)}`) },
      { key: 'limit', title: 'limit', of: (/** @type {any} */ r) => limitName(r.limit) },
      { key: 'outcome', title: 'then', of: (/** @type {any} */ r) => outcome(r.outcome) },
    ]} />
    <p class="dim">Consumers assumed away. With them as they are it is ${h.horizon.to_empty.seconds === null ? 'never empty' : `empty in ${span(h.horizon.to_empty.seconds)}`}.${h.is_slowed ? ' Publishers are slowed to keep its SLO.' : ''}</p>
    <ul class="limits">${h.limits.map((/** @type {Api['Limit']} */ l) => html`<li><span>${limitName(l.limit)}${l.is_shared ? ' (shared)' : ''}</span>
      <${Bar} part=${l.used / l.capacity} isBad=${l.used / l.capacity > 0.9} label=${`${limitName(l.limit)}: ${Math.round((100 * l.used) / l.capacity)} % used`} />
      <span class="dim">${l.unit === 'bytes' ? `${bytes(l.used)} of ${bytes(l.capacity)}` : `${count(l.used)} of ${count(l.capacity)}`}</span></li>`)}</ul>`;
}

/** @param {{ of: Api['Replicas'] | null, path: string }} props */
function Replicas({ of, path }) {
  if (!of) return html`<p class="dim">Asking…</p>`;
  if (!of.replicated) return html`<p class="dim">Kept by one node only.</p>`;
  const change = (/** @type {'add' | 'remove' | 'move' | 'lead'} */ action, /** @type {string} */ title, /** @type {string | undefined} */ node) => ask({
    title,
    verb: 'Go',
    danger: action === 'remove',
    text: node && html`<p>${action === 'remove' ? 'This node keeps the queue no longer' : action === 'lead' ? 'This node leads the queue within seconds, and from now on while it is well' : 'Another node keeps the queue instead of this one'}: <b class="name">${name(node)}</b>. The queue goes on meanwhile.</p>`,
    fields: [...(node ? [] : [{ name: 'node', label: 'Node', required: true }]), ...(action === 'move' ? [{ name: 'to', label: 'To the node', required: true }] : [])],
    run: (v) => call('POST', path, { action, node: node ?? v.node, ...(v.to ? { to: v.to } : {}) }),
    said: 'It is on its way.',
  });
  return html`<${Table} caption="Replicas" rows=${of.replicas} keyOf=${(/** @type {Api['Replica']} */ r) => r.node} columns=${[
    { key: 'node', title: 'node', of: (/** @type {Api['Replica']} */ r) => html`<span class="name">${name(r.node)}</span>${r.node === of.leader ? html` <${Chip}>leader<//>` : ''}` },
    { key: 'up', title: 'node is', of: (/** @type {Api['Replica']} */ r) => (r.up ? html`<${Chip} level="ok">up<//>` : html`<${Chip} level="bad">down<//>`) },
    { key: 'role', title: 'part', of: (/** @type {Api['Replica']} */ r) => (r.witness ? 'witness: votes, keeps nothing' : r.voter ? 'votes' : 'catches up') },
    { key: 'behind', title: 'behind', number: true, of: (/** @type {Api['Replica']} */ r) => (r.behind === null ? 'unknown' : r.behind === 0 ? 'nothing' : plural(r.behind, 'entry', 'entries')) },
    { key: 'state', title: 'state', of: (/** @type {Api['Replica']} */ r) => (r.repairing ? html`<${Chip} level="warn">is repaired<//>` : r.needs_snapshot ? html`<${Chip} level="warn">needs a snapshot<//>` : 'whole') },
    { key: 'do', title: '', of: (/** @type {Api['Replica']} */ r) => may('administrator') && html`${r.node !== of.leader && !r.witness && html`<button class="quiet" onClick=${() => change('lead', 'Have it lead?', r.node)}>lead</button>`}<button class="quiet" onClick=${() => change('move', 'Move the replica', r.node)}>move</button><button class="quiet" onClick=${() => change('remove', 'Remove the replica?', r.node)}>remove</button>` },
  ]} />${may('administrator') && html`<button onClick=${() => change('add', 'Add a replica', undefined)}>Add a replica</button>`}`;
}

/** @param {{ rows: any[] }} props */
function Consumers({ rows }) {
  return html`<${Sorted} caption="Consumers" file="consumers" rows=${rows} hasFilter=${rows.length > 10} keyOf=${(/** @type {any} */ c) => `${c.channel_details?.name} ${c.consumer_tag}`}
    empty="Nobody consumes from this queue." columns=${[
      { key: 'consumer_tag', title: 'tag', of: (/** @type {any} */ c) => html`<span class="name">${name(c.consumer_tag)}</span>` },
      { key: 'channel_details.name', title: 'channel', of: (/** @type {any} */ c) => html`<${To} to=${['connections', c.channel_details?.connection_name ?? '']}>${c.channel_details?.name ?? 'unknown'}<//>` },
      { key: 'ack_required', title: 'acks', of: (/** @type {any} */ c) => (c.ack_required ? 'by hand' : 'automatic') },
      { key: 'prefetch_count', title: 'prefetch', number: true, of: (/** @type {any} */ c) => (c.prefetch_count === 0 ? 'unlimited' : count(c.prefetch_count)) },
      { key: 'active', title: 'active', of: (/** @type {any} */ c) => (c.active === false ? 'waits' : 'yes') },
    ]} />`;
}

/** @param {{ rows: any[] | null, vhost: string, queue: string }} props */
function Bindings({ rows, vhost, queue }) {
  const own = rows?.filter((b) => b.source !== '') ?? null;
  const bind = () => ask({
    title: 'Bind to an exchange',
    verb: 'Bind',
    fields: [
      { name: 'source', label: 'Exchange', required: true },
      { name: 'key', label: 'Routing key' },
      { name: 'arguments', label: 'Arguments (JSON)', kind: 'area', value: '{}' },
    ],
    run: (v) => call('POST', `/api/bindings/${part(vhost)}/e/${part(v.source)}/q/${part(queue)}`, { routing_key: v.key, arguments: JSON.parse(v.arguments) }),
    said: 'Bound.',
  });
  const unbind = (/** @type {any} */ b) => ask({
    title: 'Unbind?',
    danger: true,
    verb: 'Unbind',
    text: html`<p>Messages that <b class="name">${name(b.source)}</b> gets with the key <b class="name">${name(b.routing_key)}</b> will not come to <b class="name">${name(queue)}</b> by this binding any more.</p>`,
    run: () => call('DELETE', `/api/bindings/${part(vhost)}/e/${part(b.source)}/q/${part(queue)}/${part(b.properties_key)}`),
    said: 'Unbound.',
  });
  return html`<${Sorted} caption="Bindings" file="bindings" rows=${own} hasFilter=${(own?.length ?? 0) > 10} keyOf=${(/** @type {any} */ b) => `${b.source} ${b.properties_key}`}
    empty="Only the default exchange leads here, by the queue's name." columns=${[
      { key: 'source', title: 'exchange', of: (/** @type {any} */ b) => html`<${To} to=${['exchanges', vhost, b.source]}>${b.source}<//>` },
      { key: 'routing_key', title: 'routing key', of: (/** @type {any} */ b) => html`<span class="name">${name(b.routing_key)}</span>` },
      { key: 'arguments', title: 'arguments', of: (/** @type {any} */ b) => value(b.arguments) },
      { key: 'unbind', title: '', sort: false, of: (/** @type {any} */ b) => html`<button class="quiet" onClick=${() => unbind(b)}>unbind</button>` },
    ]} /><button onClick=${bind}>Bind to an exchange</button>`;
}

/** @param {{ title: string, of: any }} props */
export function Arguments({ title, of }) {
  const pairs = Object.entries(of ?? {});
  return html`<div><h3>${title}</h3>${pairs.length === 0 ? html`<p class="dim">None.</p>` : html`<${Facts} of=${pairs.map(([k, v]) => [name(k), value(v)])} />`}</div>`;
}

/** @param {{ path: string }} props */
function Messages({ path }) {
  const [got, setGot] = useState(/** @type {any[] | null} */ (null));
  const [many, setMany] = useState('10');
  const [wrong, setWrong] = useState('');
  const peek = async () => {
    setWrong('');
    try {
      setGot(await call('POST', `${path}/get`, { count: Number(many), ackmode: 'ack_requeue_true', encoding: 'auto', truncate: 50_000 }));
    } catch (error) {
      setWrong(String(/** @type {Error} */ (error).message));
    }
  };
  return html`
    <div class="tools"><label>the first <input type="number" min="1" max="500" value=${many} onInput=${(/** @type {any} */ e) => setMany(e.target.value)} /></label>
      <button onClick=${peek}>Look</button><span class="dim">They return to their places, marked as redelivered.</span></div>
    ${wrong && html`<p class="wrong" role="alert">${wrong}</p>`}
    ${got && (got.length === 0 ? html`<p class="dim">No message is ready.</p>` : html`<ol class="messages">${got.map((m) => html`<${Message} of=${m} />`)}</ol>`)}`;
}

/** @param {{ of: any }} props */
export function Message({ of: m }) {
  let body = m.payload;
  if (m.payload_encoding === 'string') {
    try {
      body = JSON.stringify(JSON.parse(m.payload), null, 2);
    } catch {
      // It is no JSON.
    }
  }
  const { headers = {}, ...properties } = m.properties ?? {};
  return html`<li class="message"><p><b class="name">${m.exchange === '' ? '(default exchange)' : name(m.exchange)}</b> › <span class="name">${name(m.routing_key)}</span>
      <span class="dim">${bytes(m.payload_bytes)}${m.redelivered ? ', redelivered' : ''}${m.payload_encoding === 'base64' ? ', as base64' : ''}</span>
      <button class="quiet" onClick=${() => copy(m.payload)}>copy</button></p>
    ${[...Object.entries(properties), ...Object.entries(headers)].length > 0 && html`<${Facts} of=${[...Object.entries(properties), ...Object.entries(headers)].map(([k, v]) => [name(k), value(v)])} />`}
    <pre tabindex="0">${body}</pre></li>`;
}

/** @param {{ q: any, path: string }} props */
function Actions({ q, path }) {
  const publish = () => ask({
    title: 'Publish a message',
    verb: 'Publish',
    fields: [
      { name: 'payload', label: 'Body', kind: 'area' },
      { name: 'headers', label: 'Headers (JSON)', kind: 'area', value: '{}' },
      { name: 'persistent', label: 'Persistent', kind: 'flag', value: true },
    ],
    run: async (v) => {
      const { routed } = await call('POST', `/api/exchanges/${part(q.vhost)}/amq.default/publish`, {
        routing_key: q.name, payload: v.payload, payload_encoding: 'string', properties: { delivery_mode: v.persistent ? 2 : 1, headers: JSON.parse(v.headers) },
      });
      if (!routed) throw new Error('The queue did not take it.');
      return 'Published and confirmed.';
    },
  });
  const purge = () => ask({
    title: 'Purge the queue?',
    danger: true,
    verb: 'Purge',
    text: html`<p>This throws away <b>${plural(q.messages_ready, 'message')}</b> (${bytes(q.message_bytes_ready ?? q.message_bytes)}) of <b class="name">${name(q.name)}</b>${q.type === 'quorum' ? ', on all its replicas' : ''}. ${plural(q.messages_unacknowledged, 'message')} that consumers hold ${q.messages_unacknowledged === 1 ? 'stays' : 'stay'}. It cannot be undone.</p>`,
    run: () => call('DELETE', `${path}/contents`),
    said: 'Purged.',
  });
  const drop = () => ask({
    title: 'Delete the queue?',
    danger: true,
    verb: 'Delete',
    typed: q.messages > 0 ? q.name : undefined,
    text: html`<p>This deletes <b class="name">${name(q.name)}</b> with <b>${plural(q.messages, 'message')}</b> (${bytes(q.message_bytes)}) and ends ${plural(q.consumers, 'consumer')}. It cannot be undone.</p>`,
    run: async () => {
      await call('DELETE', path);
      go(['queues']);
      return 'Deleted.';
    },
  });
  return html`<button class="primary" onClick=${publish}>Publish</button>
    <button onClick=${() => move(q)}>Move</button>
    <button onClick=${purge}>Purge</button><button class="danger" onClick=${drop}>Delete</button>`;
}

/** Messages to another queue, by a job of the node's. @param {any} q */
function move(q) {
  ask({
    title: 'Move messages',
    verb: 'Move',
    text: html`<p>Moves up to <b>${plural(q.messages_ready, 'message')}</b> from <b class="name">${name(q.name)}</b>. Each is confirmed there before it is taken away here, so none is lost; after a crash one may be there twice.</p>`,
    fields: [
      { name: 'to', label: 'To the queue', required: true },
      { name: 'count', label: 'How many', kind: 'number', hint: 'all, if it is empty' },
    ],
    run: async (v) => {
      const job = await call('POST', '/api/staunch/v1/jobs', { kind: 'move', vhost: q.vhost, queue: q.name, to: v.to, ...(v.count ? { count: Number(v.count) } : {}) });
      return `Moving: job ${job?.id ?? ''}.`;
    },
  });
}

