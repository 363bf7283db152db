// @ts-check
import { html, useEffect, useState } from '../html.js';
import { call, may, part } from '../api.js';
import { ask, Entry } from '../dialog.js';
import { firstOf, name, plural, value } from '../format.js';
import { useBody, useLive, refresh } from '../live.js';
import { Chip, Head, Missing, Sorted, To } from '../parts.js';

/** @typedef {import('../../types/openapi').components['schemas']} Api */

const SETTINGS = ['max-length', 'max-length-bytes', 'overflow', 'message-ttl', 'expires', 'dead-letter-exchange', 'dead-letter-routing-key', 'delivery-limit', 'horizon-slo', 'alternate-exchange'];

export function Policies() {
  const policies = useLive('/api/policies');
  const operator = useLive('/api/operator-policies');
  const vhosts = (useBody('/api/vhosts?columns=name') ?? []).map((/** @type {any} */ v) => v.name);
  const [edited, edit] = useState(/** @type {any} */ (null));
  const first = firstOf(vhosts);
  const rows = (/** @type {any} */ known) => (known?.status === 200 ? known.body : null);
  const isAdmin = may('administrator');
  return html`
    <${Head} title="Policies" path="/api/policies" command="policy ls"
      actions=${html`<button class="primary" onClick=${() => edit({ vhost: first, name: '', pattern: '^', 'apply-to': 'queues', priority: 0, definition: {} })}>New policy</button>`} />
    <p class="dim">A queue takes its settings from the fitting policy of the highest priority; an operator policy bounds them.</p>
    ${edited && html`<${Editor} key=${`${edited.isOperator} ${edited.vhost} ${edited.name}`} of=${edited} vhosts=${vhosts} onClose=${() => edit(null)} />`}
    <section class="card"><h2>Policies</h2>${policies && policies.status !== 200 ? html`<${Missing} of=${policies} />` : html`<${List} rows=${rows(policies)} path="policies" edit=${edit} empty=${html`<p>No policies. Such as:</p><pre>staunch policy set short '^tmp\\.' message-ttl=60000</pre>`} />`}</section>
    <section class="card"><h2>Operator policies ${isAdmin && html`<button onClick=${() => edit({ isOperator: true, vhost: first, name: '', pattern: '^', 'apply-to': 'queues', priority: 0, definition: {} })}>New operator policy</button>`}</h2>
      <${List} rows=${rows(operator)} path="operator-policies" edit=${(/** @type {any} */ p) => edit({ ...p, isOperator: true })} empty="No operator policies." /></section>`;
}

/** @param {{ rows: any[] | null, path: string, edit: (p: any) => void, empty: any }} props */
function List({ rows, path, edit, empty }) {
  const drop = (/** @type {any} */ p) => ask({
    title: 'Delete the policy?',
    danger: true,
    verb: 'Delete',
    text: html`<p>Without <b class="name">${name(p.name)}</b> what it applies to goes back to its own arguments or to the next policy that fits. A queue whose limit goes may grow; one that gets a tighter limit drops messages.</p>`,
    run: () => call('DELETE', `/api/${path}/${part(p.vhost)}/${part(p.name)}`),
    said: 'Deleted.',
  });
  return html`<${Sorted} caption=${path} file=${path} rows=${rows} hasFilter=${(rows?.length ?? 0) > 10} keyOf=${(/** @type {any} */ p) => `${p.vhost} ${p.name}`} empty=${empty} columns=${[
    { key: 'vhost', title: 'vhost', of: (/** @type {Api['Policy']} */ p) => name(p.vhost) },
    { key: 'name', title: 'name', of: (/** @type {Api['Policy']} */ p) => html`<span class="name">${name(p.name)}</span>` },
    { key: 'pattern', title: 'pattern', of: (/** @type {Api['Policy']} */ p) => html`<code class="name">${name(p.pattern)}</code>` },
    { key: 'apply-to', title: 'applies to', of: (/** @type {Api['Policy']} */ p) => name(p['apply-to']) },
    { key: 'definition', title: 'says', of: (/** @type {Api['Policy']} */ p) => Object.entries(p.definition).map(([k, v]) => html`<${Chip}>${name(k)}: ${value(v)}<//> `) },
    { key: 'priority', title: 'priority', number: true, of: (/** @type {any} */ p) => String(p.priority) },
    { key: 'do', title: '', sort: false, of: (/** @type {Api['Policy']} */ p) => html`<button class="quiet" onClick=${() => edit(p)}>change</button><button class="quiet" onClick=${() => drop(p)}>delete</button>` },
  ]} />`;
}

/** A policy, with what its pattern matches. @param {{ of: any, vhosts: string[], onClose: () => void }} props */
function Editor({ of, vhosts, onClose }) {
  const [p, set] = useState({ ...of, definition: JSON.stringify(of.definition, null, 2) });
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [wrong, setWrong] = useState('');
  const field = (/** @type {any} */ f) => html`<${Entry} field=${f} value=${p[f.name]} onChange=${(/** @type {any} */ v) => set({ ...p, [f.name]: v })} />`;
  const kinds = p['apply-to'] === 'exchanges' ? 'exchanges' : 'queues';
  useEffect(() => {
    const timer = setTimeout(() => {
      const query = `page=1&page_size=5&columns=name,policy&use_regex=true&name=${encodeURIComponent(p.pattern)}`;
      call('GET', `/api/${kinds}/${part(p.vhost ?? '/')}?${query}`).then((f) => { setFound(f); }, (e) => setFound({ error: e.message }));
    }, 200);
    return () => clearTimeout(timer);
  }, [p.pattern, p.vhost, kinds]);
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await call('PUT', `/api/${of.isOperator ? 'operator-policies' : 'policies'}/${part(p.vhost)}/${part(p.name)}`, {
        pattern: p.pattern, 'apply-to': p['apply-to'], priority: Number(p.priority), definition: JSON.parse(p.definition),
      });
      onClose();
      refresh();
    } catch (error) {
      setWrong(String(/** @type {Error} */ (error).message));
    }
  };
  return html`<section class="card"><h2>${of.name ? 'Change' : 'New'} ${of.isOperator ? 'operator policy' : 'policy'}</h2><form class="card" onSubmit=${save}>
    <div class="halves"><div class="card">
      ${field({ name: 'vhost', label: 'Virtual host', kind: 'choice', choices: vhosts })}
      ${field({ name: 'name', label: 'Name', required: true })}
      ${field({ name: 'pattern', label: 'Pattern of names', required: true })}
      <p role="status">${!found ? '' : found.error ? html`<${Chip} level="bad">${found.error}<//>` : html`matches <b>${plural(found.filtered_count, kinds.slice(0, -1))}</b>${found.items.length > 0 ? ': ' : ''}${found.items.map((/** @type {any} */ q) => html`<${To} to=${[kinds, p.vhost, q.name]}>${q.name}<//> `)}${found.filtered_count > found.items.length ? '…' : ''}`}</p>
      ${field({ name: 'apply-to', label: 'Applies to', kind: 'choice', choices: ['queues', 'exchanges', 'all', 'classic_queues', 'quorum_queues'] })}
      ${field({ name: 'priority', label: 'Priority', kind: 'number' })}
    </div><div class="card">${field({ name: 'definition', label: 'Definition (JSON)', kind: 'area', hint: SETTINGS.join(', ') })}</div></div>
    ${wrong && html`<p class="wrong" role="alert">${wrong}</p>`}
    <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button class="primary">Apply</button></div></form></section>`;
}
