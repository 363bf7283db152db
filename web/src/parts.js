// @ts-check
/** What every page has: its head, tables, chips, empty states. */
import { html, useState } from './html.js';
import { base, reason, session } from './api.js';
import { count, csv, curl, name, UNKNOWN } from './format.js';
import { useLive } from './live.js';
import { ask as askPlace, link, place } from './route.js';
import { say } from './dialog.js';

/** @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say('Copied.');
  } catch {
    say(text);
  }
}

/**
 * A page's head: what it is, a verdict, and how to ask the same elsewhere.
 * @param {{ title: any, verdict?: any, level?: string, path?: string, command?: string, actions?: any }} props
 */
export function Head({ title, verdict, level = 'ok', path, command, actions }) {
  const node = base.origin + base.pathname.replace(/\/$/, '');
  return html`
    <header class="head">
      <div><h1>${title}</h1>${verdict && html`<p class=${`verdict ${level}`} role=${level === 'bad' ? 'alert' : null}><${Mark} level=${level} /> <span>${verdict}</span></p>`}</div>
      <div class="actions">${actions}
        ${path && html`<button class="quiet" title="Copy this page's request for curl" onClick=${() => copy(curl(node, session.value?.user ?? '', 'GET', path))}>copy as curl</button>`}
        ${command && html`<button class="quiet" title=${`Copy: staunch ${command}`} onClick=${() => copy(`staunch ${command} --node ${node}`)}>copy as staunch</button>`}
      </div>
    </header>`;
}

const MARKS = { ok: ['✓', 'well'], warn: ['▲', 'attention'], bad: ['✕', 'critical'], unknown: ['?', UNKNOWN] };

/** A sign and, for who does not see it, a word. @param {{ level: string }} props */
export function Mark({ level }) {
  const [sign, word] = MARKS[/** @type {keyof typeof MARKS} */ (level)] ?? MARKS.unknown;
  return html`<span class=${`mark ${level}`} role="img" aria-label=${word}>${sign}</span>`;
}

/** A small word in a frame. @param {{ level?: string, children?: any, title?: string }} props */
export function Chip({ level = '', children, title }) {
  return html`<span class=${`chip ${level}`} title=${title}>${level && html`<${Mark} level=${level} />`}${children}</span>`;
}

/** A name that leads somewhere. @param {{ to: string[], query?: any, children: any }} props */
export function To({ to, query, children }) {
  return html`<a class="name" href=${link(to, query)}>${typeof children === 'string' ? name(children) : children}</a>`;
}

/** A pair of a name and a value. @param {{ of: [any, any][] }} props */
export function Facts({ of }) {
  return html`<dl class="facts">${of.filter(([, v]) => v !== undefined).map(([k, v]) => html`<div><dt>${k}</dt><dd>${v ?? UNKNOWN}</dd></div>`)}</dl>`;
}

/** What cannot be shown, and why; or that it is on its way. @param {{ of: import('./live.js').Known | null }} props */
export function Missing({ of }) {
  if (!of) return html`<p class="dim" role="status">Asking…</p>`;
  if (of.status === 200) return null;
  return html`<p class="wrong" role="alert"><${Mark} level=${of.status === 503 ? 'unknown' : 'bad'} /> ${of.status === 404 ? 'There is no such thing (any more).' : reason(of)}</p>`;
}

/** Nodes that have not answered. @param {{ of: (import('./live.js').Known | null)[] }} props */
export function Unknown({ of }) {
  const nodes = [...new Set(of.flatMap((k) => [...(k?.unknown ?? []), ...(k?.body?.unknown_nodes ?? [])]))];
  if (nodes.length === 0) return null;
  return html`<p class="note" role="status"><${Mark} level="unknown" /> ${nodes.map((n) => name(n)).join(', ')} ${nodes.length === 1 ? 'does' : 'do'} not answer: what only ${nodes.length === 1 ? 'it knows' : 'they know'} is unknown, and left out of sums.</p>`;
}

/**
 * @typedef {{ key: string, title: string, number?: boolean, of: (row: any) => any, plain?: (row: any) => any, sort?: boolean, isExtra?: boolean, hint?: string }} Column
 */

/**
 * A table. With `onSort` its heads sort.
 * @param {{ caption: string, columns: Column[], rows: any[] | null, keyOf: (row: any) => string, sort?: string, isDown?: boolean,
 *   onSort?: (key: string) => void, empty?: any }} props
 */
export function Table({ caption, columns, rows, keyOf, sort, isDown, onSort, empty }) {
  const head = (/** @type {Column} */ c) => {
    const isIt = sort === c.key;
    const order = !isIt ? undefined : isDown ? 'descending' : 'ascending';
    return html`<th scope="col" class=${c.number ? 'number' : ''} aria-sort=${order} title=${c.hint}>
      ${onSort && c.sort !== false
        ? html`<button class="plain" onClick=${() => onSort(c.key)}>${c.title}${isIt ? (isDown ? ' ↓' : ' ↑') : ''}</button>`
        : c.title || html`<span class="hidden">Actions</span>`}</th>`;
  };
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label=${caption}>
      <table><caption class="hidden">${caption}</caption>
        <thead><tr>${columns.map(head)}</tr></thead>
        <tbody>${(rows ?? []).map((row) => html`<tr key=${keyOf(row)}>
          ${columns.map((c) => html`<td class=${c.number ? 'number' : ''}>${c.of(row) ?? html`<span class="dim">–</span>`}</td>`)}</tr>`)}</tbody>
      </table>
      ${rows?.length === 0 && html`<div class="empty">${empty ?? 'Nothing here.'}</div>`}
      ${rows === null && html`<div class="empty dim">Asking…</div>`}
    </div>`;
}

/** What of a row is written into a file. @param {Column} column @param {any} row */
function plainOf(column, row) {
  if (column.plain) return column.plain(row);
  const found = column.key.split('.').reduce((v, k) => v?.[k], row);
  return found;
}

/** @param {string} file @param {string} kind @param {string} text */
export function save(file, kind, text) {
  const at = document.createElement('a');
  at.href = URL.createObjectURL(new Blob([text], { type: kind }));
  at.download = file;
  at.click();
  URL.revokeObjectURL(at.href);
}

/** Buttons that save what a table shows. @param {{ file: string, columns: Column[], rows: any[] | null }} props */
export function Save({ file, columns, rows }) {
  const kept = columns.filter((c) => c.title !== '');
  const asCsv = () => save(`${file}.csv`, 'text/csv', csv(kept.map((c) => c.title), (rows ?? []).map((r) => kept.map((c) => plainOf(c, r)))));
  return html`<button class="quiet" onClick=${asCsv}>CSV</button>
    <button class="quiet" onClick=${() => save(`${file}.json`, 'application/json', JSON.stringify(rows, null, 2))}>JSON</button>`;
}

/** A table that is sorted and filtered here: for lists that are never long.
 * @param {{ caption: string, file: string, columns: Column[], rows: any[] | null, keyOf: (row: any) => string, empty?: any, first?: string, hasFilter?: boolean }} props */
export function Sorted({ caption, file, columns, rows, keyOf, empty, first, hasFilter = true }) {
  const [[key, isDown], order] = useState(/** @type {[string, boolean]} */ ([first ?? columns[0].key, false]));
  const [filter, setFilter] = useState('');
  const column = columns.find((c) => c.key === key) ?? columns[0];
  const text = (/** @type {any} */ row) => columns.map((c) => String(plainOf(c, row) ?? '')).join(' ').toLowerCase();
  const kept = rows?.filter((row) => filter === '' || text(row).includes(filter.toLowerCase()));
  const sorted = kept?.sort((a, b) => compare(plainOf(column, a), plainOf(column, b)) * (isDown ? -1 : 1)) ?? null;
  return html`
    <div class="tools">
      ${hasFilter && html`<label class="filter"><span class="hidden">Filter ${caption}</span><input type="search" placeholder="Filter" value=${filter} onInput=${(/** @type {any} */ e) => setFilter(e.target.value)} /></label>`}
      <span class="dim">${sorted ? count(sorted.length) : ''}</span><span class="grow"></span><${Save} file=${file} columns=${columns} rows=${sorted} />
    </div>
    <${Table} caption=${caption} columns=${columns} rows=${sorted} keyOf=${keyOf} sort=${column.key} isDown=${isDown} empty=${empty}
      onSort=${(/** @type {string} */ k) => order([k, k === key && !isDown])} />`;
}

/** @param {any} a @param {any} b */
export function compare(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (a === undefined || a === null) return b === undefined || b === null ? 0 : -1;
  if (b === undefined || b === null) return 1;
  return String(a).localeCompare(String(b));
}

const SIZES = [25, 50, 100, 250, 500];

/**
 * A list that the node sorts, filters and cuts into pages; all that was chosen is in the address.
 * @param {{ caption: string, file: string, path: (query: Record<string, string>) => string, columns: Column[], keyOf: (row: any) => string,
 *   empty?: any, filters?: any, columnsAsked?: (columns: Column[]) => string, bulk?: (rows: any[]) => any }} props
 */
export function Paged({ caption, file, path, columns, keyOf, empty, filters }) {
  const { query } = place.value;
  const size = query.page_size ?? '50';
  const params = new URLSearchParams({ page: query.page ?? '1', page_size: size });
  for (const key of ['name', 'use_regex', 'type', 'state', 'sort', 'sort_reverse']) if (query[key]) params.set(key, query[key]);
  const separator = path(query).includes('?') ? '&' : '?';
  const asked = `${path(query)}${separator}${params}`;
  const known = useLive(asked);
  const body = known?.status === 200 ? known.body : null;
  const extra = query.columns?.split(',');
  const shown = columns.filter((c) => (extra ? extra.includes(c.key) || c.title === '' : !c.isExtra));
  const change = (/** @type {Record<string, any>} */ more) => askPlace({ page: undefined, ...more });
  const turnTo = (/** @type {number} */ page) => askPlace({ page });
  const page = Number(query.page ?? 1);
  const pages = Math.max(1, body?.page_count ?? 1);
  return html`
    <div class="tools">
      <label class="filter"><span class="hidden">Filter by name</span>
        <input id="filter" type="search" placeholder="Filter by name  /" value=${query.name ?? ''} onInput=${(/** @type {any} */ e) => change({ name: e.target.value })} /></label>
      <label class="flag"><input type="checkbox" checked=${query.use_regex === 'true'} onChange=${(/** @type {any} */ e) => change({ use_regex: e.target.checked ? 'true' : undefined })} /> pattern</label>
      ${filters}
      <span class="dim" role="status">${body && `${count(body.filtered_count)}${body.filtered_count === body.total_count ? '' : ` of ${count(body.total_count)}`}`}</span>
      <span class="grow"></span>
      <details class="menu"><summary>Columns</summary><div>${columns.filter((c) => c.title !== '').map((c) => html`
        <label class="flag"><input type="checkbox" checked=${shown.includes(c)} onChange=${() => {
          const kept = shown.includes(c) ? shown.filter((s) => s !== c) : columns.filter((s) => s === c || shown.includes(s));
          askPlace({ columns: kept.filter((s) => s.title !== '').map((s) => s.key).join(',') });
        }} /> ${c.title}</label>`)}</div></details>
      <${Save} file=${file} columns=${shown} rows=${body?.items ?? null} />
    </div>
    <${Unknown} of=${[known]} />
    ${known && known.status !== 200 ? html`<${Missing} of=${known} />` : html`
    <${Table} caption=${caption} columns=${shown} rows=${body?.items ?? null} keyOf=${keyOf} sort=${query.sort} isDown=${query.sort_reverse === 'true'}
      empty=${query.name ? 'No name fits the filter.' : empty}
      onSort=${(/** @type {string} */ key) => change({ sort: key, sort_reverse: query.sort === key && query.sort_reverse !== 'true' ? 'true' : undefined })} />`}
    <nav class="pages" aria-label="Pages">
      <button disabled=${page <= 1} onClick=${() => turnTo(page - 1)}>‹ previous</button>
      <span>page ${count(page)} of ${count(pages)}</span>
      <button disabled=${page >= pages} onClick=${() => turnTo(page + 1)}>next ›</button>
      <label>rows <select value=${size} onChange=${(/** @type {any} */ e) => change({ page_size: e.target.value })}>${SIZES.map((s) => html`<option value=${String(s)}>${s}</option>`)}</select></label>
    </nav>`;
}
