// @ts-check
import { html } from '../html.js';
import { call, may, part } from '../api.js';
import { act, ask } from '../dialog.js';
import { count, name, plural, rate } from '../format.js';
import { useLive } from '../live.js';
import { Chip, Head, Missing, Sorted, To } from '../parts.js';

export function Vhosts() {
  const known = useLive('/api/vhosts');
  const isAdmin = may('administrator');
  const limits = useLive(isAdmin ? '/api/vhost-limits' : null);
  if (known?.status !== 200) return html`<${Head} title="Virtual hosts" /><${Missing} of=${known} />`;
  const limitsOf = (/** @type {string} */ v) => (limits?.status === 200 ? limits.body.find((/** @type {any} */ l) => l.vhost === v)?.value ?? {} : {});
  const make = () => ask({
    title: 'New virtual host',
    verb: 'Create',
    fields: [{ name: 'name', label: 'Name', required: true }, { name: 'description', label: 'Description' }, { name: 'type', label: 'Type of queues that do not say', kind: 'choice', choices: ['classic', 'quorum'], value: 'classic' }],
    run: (v) => call('PUT', `/api/vhosts/${part(v.name)}`, { description: v.description, default_queue_type: v.type }),
    said: 'Created. Nobody may enter it yet but who is given a permission.',
  });
  const limit = (/** @type {string} */ vhost) => ask({
    title: `Limits of ${name(vhost)}`,
    verb: 'Set',
    fields: ['max-connections', 'max-queues'].map((k) => ({ name: k, label: k, kind: 'number', value: limitsOf(vhost)[k] ?? '', hint: 'empty: none' })),
    run: async (v) => {
      for (const k of ['max-connections', 'max-queues']) {
        const path = `/api/vhost-limits/${part(vhost)}/${k}`;
        if (v[k] !== '') await call('PUT', path, { value: Number(v[k]) });
        else if (limitsOf(vhost)[k] !== undefined) await call('DELETE', path);
      }
    },
    said: 'Set.',
  });
  const drop = async (/** @type {any} */ v) => {
    const queues = await call('GET', `/api/queues/${part(v.name)}?page=1&page_size=1&columns=name`).catch(() => null);
    ask({
      title: 'Delete the virtual host?',
      danger: true,
      verb: 'Delete',
      typed: v.name,
      text: html`<p>This deletes <b class="name">${name(v.name)}</b> with ${queues ? html`<b>${plural(queues.total_count, 'queue')}</b> and ` : ''}<b>${typeof v.messages === 'number' ? plural(v.messages, 'message') : 'all its messages'}</b>, its exchanges, bindings, policies and permissions, and closes its connections. It cannot be undone.</p>`,
      run: () => call('DELETE', `/api/vhosts/${part(v.name)}`),
      said: 'Deleted.',
    });
  };
  return html`
    <${Head} title="Virtual hosts" path="/api/vhosts" command="vhost ls" actions=${isAdmin && html`<button class="primary" onClick=${make}>New virtual host</button>`} />
    <${Sorted} caption="Virtual hosts" file="vhosts" rows=${known.body} keyOf=${(/** @type {any} */ v) => v.name} columns=${[
      { key: 'name', title: 'name', of: (/** @type {any} */ v) => html`<${To} to=${['queues']} query=${{ vhost: v.name }}>${v.name}<//>` },
      { key: 'description', title: 'description', of: (/** @type {any} */ v) => (v.description ? html`<span class="name">${name(v.description)}</span>` : null) },
      { key: 'default_queue_type', title: 'queues are', of: (/** @type {any} */ v) => name(v.default_queue_type) },
      { key: 'messages_ready', title: 'ready', number: true, of: (/** @type {any} */ v) => (v.messages_ready === undefined ? null : count(v.messages_ready)) },
      { key: 'message_stats.publish_details.rate', title: 'publish /s', number: true, of: (/** @type {any} */ v) => (v.message_stats ? rate(v.message_stats.publish_details?.rate ?? 0) : null) },
      { key: 'limits', title: 'limits', sort: false, plain: (/** @type {any} */ v) => limitsOf(v.name), of: (/** @type {any} */ v) => Object.entries(limitsOf(v.name)).map(([k, n]) => html`<${Chip}>${k}: ${count(n)}<//> `) },
      { key: 'protected_from_deletion', title: 'kept', of: (/** @type {any} */ v) => (v.protected_from_deletion ? html`<${Chip}>protected<//>` : null) },
      { key: 'do', title: '', sort: false, of: (/** @type {any} */ v) => isAdmin && html`
        <button class="quiet" onClick=${() => limit(v.name)}>limits</button>
        <button class="quiet" onClick=${() => act(() => call(v.protected_from_deletion ? 'DELETE' : 'POST', `/api/vhosts/${part(v.name)}/deletion/protection`), 'Done.')}>${v.protected_from_deletion ? 'unprotect' : 'protect'}</button>
        <button class="quiet" disabled=${v.protected_from_deletion} onClick=${() => drop(v)}>delete</button>` },
    ]} />`;
}
