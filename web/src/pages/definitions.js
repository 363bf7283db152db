// @ts-check
import { html, useState } from '../html.js';
import { call, part } from '../api.js';
import { act } from '../dialog.js';
import { diff } from '../diff.js';
import { count, name, plural } from '../format.js';
import { useBody } from '../live.js';
import { Chip, Head, save, Sorted } from '../parts.js';

/** The largest file that the interface takes, bytes. */
const FILE_SIZE_MAX = 20 << 20;
/** What is shown of a long list of changes. */
const SHOWN_MAX = 500;

export function Definitions() {
  const vhosts = (useBody('/api/vhosts?columns=name') ?? []).map((/** @type {any} */ v) => v.name);
  const [vhost, setVhost] = useState('');
  const [file, setFile] = useState(/** @type {{ name: string, wanted: any, changes: any[] } | null} */ (null));
  const [wrong, setWrong] = useState('');
  const path = `/api/definitions${vhost === '' ? '' : `/${part(vhost)}`}`;
  const read = async (/** @type {any} */ event) => {
    setWrong('');
    setFile(null);
    const [chosen] = event.target.files;
    if (!chosen) return;
    try {
      if (chosen.size > FILE_SIZE_MAX) throw new Error('The file is larger than 20 MiB: use `staunch definitions import`.');
      const wanted = JSON.parse(await chosen.text());
      setFile({ name: chosen.name, wanted, changes: diff(await call('GET', path), wanted) });
    } catch (error) {
      setWrong(String(/** @type {Error} */ (error).message));
    }
  };
  const fetchAll = async () => {
    const all = await call('GET', path);
    save(`definitions${vhost === '' ? '' : `-${vhost.replace(/[^\w.-]/g, '_')}`}.json`, 'application/json', JSON.stringify(all, null, 2));
  };
  const added = file?.changes.filter((c) => c.is === 'added').length ?? 0;
  const changed = (file?.changes.length ?? 0) - added;
  return html`
    <${Head} title="Definitions" path=${path} command="definitions export FILE" />
    <p class="dim">All that has been defined, as a RabbitMQ definitions file: users, virtual hosts, permissions, policies, queues, exchanges, bindings. Messages are not in it.</p>
    <div class="tools"><label>of <select value=${vhost} onChange=${(/** @type {any} */ e) => { setVhost(e.target.value); setFile(null); }}><option value="">the whole cluster</option>${vhosts.map((/** @type {string} */ v) => html`<option value=${v}>${name(v)}</option>`)}</select></label></div>
    <div class="halves">
      <section class="card"><h2>Export</h2><p><button class="primary" onClick=${() => act(fetchAll, 'Saved.')}>Save definitions</button></p></section>
      <section class="card"><h2>Import</h2><label class="field"><span>A definitions file</span><input type="file" accept=".json,application/json" onChange=${read} /></label>
        <p class="dim">You see what it would change before anything happens. Nothing is ever deleted.</p></section>
    </div>
    ${wrong && html`<p class="wrong" role="alert">${wrong}</p>`}
    ${file && html`<section class="card"><h2>What ${name(file.name)} would change</h2>
      <p role="status">${file.changes.length === 0 ? 'Nothing: all of it is there already.' : html`<b class="added">${plural(added, 'object')} added</b>, <b class="changed">${count(changed)} changed</b>.`}</p>
      ${file.changes.length > 0 && html`
        <${Sorted} caption="Changes" file="changes" rows=${file.changes.slice(0, SHOWN_MAX)} keyOf=${(/** @type {any} */ c) => `${c.kind} ${c.name} ${c.is}`} columns=${[
          { key: 'is', title: 'change', of: (/** @type {any} */ c) => html`<${Chip} level=${c.is === 'added' ? 'ok' : 'warn'}>${c.is}<//>` },
          { key: 'kind', title: 'kind', of: (/** @type {any} */ c) => c.kind.replaceAll('_', ' ') },
          { key: 'name', title: 'name', of: (/** @type {any} */ c) => html`<span class="name">${name(c.name)}</span>` },
          { key: 'what', title: 'what', of: (/** @type {any} */ c) => c.what.join(', ') },
        ]} />${file.changes.length > SHOWN_MAX && html`<p class="dim">and ${count(file.changes.length - SHOWN_MAX)} more</p>`}
        <div class="buttons"><button onClick=${() => setFile(null)}>Cancel</button>
          <button class="primary" onClick=${() => act(async () => { await call('POST', path, file.wanted); setFile(null); }, 'Applied.')}>Apply ${plural(file.changes.length, 'change')}</button></div>`}</section>`}`;
}
