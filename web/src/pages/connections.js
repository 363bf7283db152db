// @ts-check
import { html } from '../html.js';
import { call, part } from '../api.js';
import { Chart } from '../chart.js';
import { ask } from '../dialog.js';
import { bytes, count, moment, name, plural, quoted, rate, ratesOf, value } from '../format.js';
import { useBody, useLive } from '../live.js';
import { Chip, Facts, Head, Missing, Paged, Table, To, Unknown } from '../parts.js';
import { go } from '../route.js';
import { Arguments } from './queue.js';

/** @param {{ of: any }} props */
function State({ of }) {
  return html`<${Chip} level=${of === 'running' ? 'ok' : of === undefined ? 'unknown' : 'warn'}>${of ?? 'unknown'}<//>`;
}

/** @type {import('../parts.js').Column[]} */
const COLUMNS = [
  { key: 'name', title: 'connection', of: (c) => html`<${To} to=${['connections', c.name]}>${c.name}<//>` },
  { key: 'user_provided_name', title: 'called', of: (c) => (c.user_provided_name ? name(c.user_provided_name) : null) },
  { key: 'user', title: 'user', of: (c) => name(c.user) },
  { key: 'vhost', title: 'vhost', of: (c) => name(c.vhost) },
  { key: 'state', title: 'state', of: (c) => html`<${State} of=${c.state} />` },
  { key: 'channels', title: 'channels', number: true, of: (c) => count(c.channels) },
  { key: 'recv_oct_details.rate', title: 'from it /s', number: true, of: (c) => (c.recv_oct_details ? bytes(c.recv_oct_details.rate) : null) },
  { key: 'send_oct_details.rate', title: 'to it /s', number: true, of: (c) => (c.send_oct_details ? bytes(c.send_oct_details.rate) : null) },
  { key: 'ssl', title: 'TLS', of: (c) => (c.ssl ? 'yes' : 'no') },
  { key: 'client', title: 'client', sort: false, plain: (c) => c.client_properties?.product, of: (c) => value(c.client_properties?.product) },
  { key: 'connected_at', title: 'since', isExtra: true, of: (c) => moment(c.connected_at) },
  { key: 'node', title: 'node', isExtra: true, of: (c) => name(c.node) },
];

export function Connections() {
  return html`<${Head} title="Connections" path="/api/connections?page=1&page_size=100" command="connection ls" />
    <${Paged} caption="Connections" file="connections" path=${() => '/api/connections'} columns=${COLUMNS} keyOf=${(/** @type {any} */ c) => c.name} empty="Nobody is connected." />`;
}

/** @param {{ parts: string[] }} props */
export function Connection({ parts: [, connection] }) {
  const path = `/api/connections/${part(connection)}`;
  const known = useLive(`${path}?data_rates_age=600&data_rates_incr=5`);
  const channels = useBody(`${path}/channels`);
  const title = html`<span class="name">${name(connection)}</span>`;
  if (known?.status !== 200) return html`<${Head} title=${title} /><${Missing} of=${known} />`;
  const c = known.body;
  const close = () => ask({
    title: 'Close the connection?',
    danger: true,
    verb: 'Close',
    text: html`<p>This ends <b class="name">${name(connection)}</b> of <b class="name">${name(c.user)}</b> with ${plural(c.channels ?? 0, 'channel')}. What it has not acknowledged returns to its queues. Most clients connect again at once.</p>`,
    run: async () => {
      await call('DELETE', path);
      go(['connections']);
      return 'It was told to close.';
    },
  });
  const level = c.state === 'running' ? 'ok' : 'warn';
  return html`
    <${Head} title=${title} level=${level} verdict=${c.state === 'running' ? `${name(c.user)} in ${name(c.vhost)}, ${plural(c.channels ?? 0, 'channel')}.` : `It is ${c.state}.`} path=${path} command=${`connection show ${quoted(connection)}`}
      actions=${html`<button class="danger" onClick=${close}>Close</button>`} />
    <${Unknown} of=${[known]} />
    <${Facts} of=${[['user', name(c.user)], ['vhost', name(c.vhost)], ['node', name(c.node)], ['since', moment(c.connected_at)], ['protocol', value(c.protocol)],
      ['TLS', c.ssl ? 'yes' : 'no'], ['heartbeat', c.timeout === undefined ? undefined : `${c.timeout} s`], ['largest frame', bytes(c.frame_max)], ['channels at most', count(c.channel_max)]]} />
    <section class="card"><${Chart} title="Bytes a second" unit=${bytes} series=${[
      { label: 'from the client', data: ratesOf(c.recv_oct_details), color: '--c1' },
      { label: 'to the client', data: ratesOf(c.send_oct_details), color: '--c2', dash: [6, 3] },
    ]} /></section>
    <section class="card"><h2>Channels</h2><${Table} caption="Channels" rows=${channels} keyOf=${(/** @type {any} */ r) => r.name} columns=${CHANNEL_COLUMNS.filter((k) => k.key !== 'user' && k.key !== 'vhost')} /></section>
    <section class="card"><${Arguments} title="What the client says of itself" of=${c.client_properties} /></section>`;
}

/** @type {import('../parts.js').Column[]} */
export const CHANNEL_COLUMNS = [
  { key: 'name', title: 'channel', of: (c) => html`<${To} to=${['connections', c.connection_details?.name ?? '']}>${c.name}<//>` },
  { key: 'user', title: 'user', of: (c) => name(c.user) },
  { key: 'vhost', title: 'vhost', of: (c) => name(c.vhost) },
  { key: 'mode', title: 'mode', sort: false, plain: (c) => (c.confirm ? 'confirm' : c.transactional ? 'transaction' : ''), of: (c) => (c.confirm ? 'confirm' : c.transactional ? 'transaction' : null) },
  { key: 'consumer_count', title: 'consumers', number: true, of: (c) => count(c.consumer_count) },
  { key: 'prefetch_count', title: 'prefetch', number: true, of: (c) => (c.prefetch_count === 0 ? 'unlimited' : count(c.prefetch_count)) },
  { key: 'messages_unacknowledged', title: 'unacked', number: true, of: (c) => html`${count(c.messages_unacknowledged)}${c.prefetch_count > 0 && c.messages_unacknowledged >= c.prefetch_count ? html` <${Chip} level="warn" title="All it may hold is out: the consumer is what is slow">full<//>` : ''}` },
  { key: 'messages_unconfirmed', title: 'unconfirmed', number: true, of: (c) => count(c.messages_unconfirmed) },
  { key: 'message_stats.publish_details.rate', title: 'publish /s', number: true, of: (c) => (c.message_stats ? rate(c.message_stats.publish_details?.rate ?? 0) : null) },
  { key: 'message_stats.deliver_get_details.rate', title: 'deliver /s', number: true, of: (c) => (c.message_stats ? rate(c.message_stats.deliver_get_details?.rate ?? 0) : null) },
  { key: 'message_stats.ack_details.rate', title: 'ack /s', number: true, of: (c) => (c.message_stats ? rate(c.message_stats.ack_details?.rate ?? 0) : null) },
];
