// @ts-check
import { html } from '../html.js';
import { count, name } from '../format.js';
import { Head, Paged, To } from '../parts.js';
import { CHANNEL_COLUMNS } from './connections.js';

export function Channels() {
  return html`<${Head} title="Channels" path="/api/channels?page=1&page_size=100" command="channel ls" />
    <${Paged} caption="Channels" file="channels" path=${() => '/api/channels'} columns=${CHANNEL_COLUMNS} keyOf=${(/** @type {any} */ c) => c.name} empty="No channel is open." />`;
}

/** @type {import('../parts.js').Column[]} */
const CONSUMERS = [
  { key: 'queue.name', title: 'queue', of: (c) => html`<${To} to=${['queues', c.queue?.vhost, c.queue?.name]}>${c.queue?.name}<//>` },
  { key: 'consumer_tag', title: 'tag', of: (c) => html`<span class="name">${name(c.consumer_tag)}</span>` },
  { key: 'channel_details.user', title: 'user', of: (c) => name(c.channel_details?.user) },
  { key: 'channel_details.connection_name', title: 'connection', of: (c) => html`<${To} to=${['connections', c.channel_details?.connection_name ?? '']}>${c.channel_details?.connection_name ?? 'unknown'}<//>` },
  { key: 'ack_required', title: 'acks', of: (c) => (c.ack_required ? 'by hand' : 'automatic') },
  { key: 'prefetch_count', title: 'prefetch', number: true, of: (c) => (c.prefetch_count === 0 ? 'unlimited' : count(c.prefetch_count)) },
  { key: 'active', title: 'active', of: (c) => (c.active === false ? 'waits' : 'yes') },
];

export function Consumers() {
  return html`<${Head} title="Consumers" path="/api/consumers?page=1&page_size=100" command="consumer ls" />
    <${Paged} caption="Consumers" file="consumers" path=${() => '/api/consumers'} columns=${CONSUMERS}
      keyOf=${(/** @type {any} */ c) => `${c.channel_details?.name} ${c.consumer_tag}`} empty="Nobody consumes." />`;
}
