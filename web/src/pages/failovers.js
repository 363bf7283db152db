// @ts-check
import { html } from '../html.js';
import { count, moment, name, plural, value } from '../format.js';
import { useLive } from '../live.js';
import { Chip, Head, Missing, Table, Unknown } from '../parts.js';

/** @typedef {import('../../types/openapi').components['schemas']} Api */

const CAUSES = { goodbye: 'it said goodbye', broken: 'its connection broke', silence: 'it fell silent', restarted: 'it was started again' };

/** What happened in a failover, in order. @type {[string, string][]} */
const PHASES = [
  ['disconnected_ms', 'its connection broke'],
  ['suspected_ms', 'given up by the others'],
  ['campaigned_ms', 'a node asked for votes'],
  ['first_led_ms', 'the first queue was led again'],
  ['all_led_ms', 'all its queues were led again'],
  ['confirmed_ms', 'the first message was confirmed again'],
  ['back_ms', 'it was back'],
];

/** Milliseconds, as long as they matter. @param {any} ms */
export function millis(ms) {
  if (typeof ms !== 'number') return 'unknown';
  return ms >= 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

const PATH = '/api/staunch/v1/failovers';
/** Events that are shown; the command line has more. */
const EVENTS_SHOWN = 100;
const LEVELS = { info: 'ok', warn: 'warn', error: 'bad' };

export function Failovers() {
  const known = useLive(PATH);
  /** @type {any[] | null} */
  const all = known?.status === 200 ? known.body.failovers : null;
  const open = all?.filter((f) => !f.is_over).length ?? 0;
  const verdict = all && (all.length === 0 ? 'No node was given up since this one was started.' : open > 0 ? `${plural(open, 'failover')} going on.` : `${plural(all.length, 'failover')}, the last one ${moment(all[0].at)}: over.`);
  return html`
    <${Head} title="Failovers" verdict=${verdict} level=${open > 0 ? 'warn' : 'ok'} path=${PATH} command="failovers" />
    <${Lost} most=${50} isFull />
    <section class="card"><h2>What has happened</h2><${Events} /></section>`;
}

/** What all nodes tell, the newest first. */
function Events() {
  const known = useLive(`/api/staunch/v1/events?count=${EVENTS_SHOWN}`);
  if (known?.status !== 200) return html`<${Missing} of=${known} />`;
  return html`<${Unknown} of=${[known]} />
    <${Table} caption="Events" rows=${[...known.body.events].reverse()} keyOf=${(/** @type {Api['Event']} */ e) => `${e.node} ${e.number}`} empty="Nothing since the nodes were started." columns=${[
      { key: 'at', title: 'when', of: (/** @type {Api['Event']} */ e) => html`<time>${moment(e.at)}</time>` },
      { key: 'node', title: 'told by', of: (/** @type {Api['Event']} */ e) => name(e.node) },
      { key: 'event', title: 'event', of: (/** @type {Api['Event']} */ e) => html`<${Chip} level=${LEVELS[/** @type {keyof typeof LEVELS} */ (e.level)]}>${name(e.event)}<//>` },
      { key: 'text', title: 'what it means', of: (/** @type {Api['Event']} */ e) => html`<span class="name">${name(e.text)}</span> <span class="dim name">${Object.entries(e.fields).map(([k, v]) => `${name(k)}=${value(v)}`).join(' ')}</span>` },
    ]} />`;
}

/** Which nodes were lost, in a line each or in full. @param {{ most: number, isFull?: boolean }} props */
export function Lost({ most, isFull }) {
  const known = useLive(PATH);
  if (known?.status !== 200) return html`<${Missing} of=${known} />`;
  const all = known.body.failovers;
  return html`<${Unknown} of=${[known]} />
    ${all.length === 0 ? html`<p class="dim">None since the node was started.</p>` : html`
    <ol class="plain-list">${all.slice(0, most).map((/** @type {any} */ f) => (isFull ? html`<${Failover} of=${f} />` : html`<${Line} of=${f} />`))}</ol>`}`;
}

/** @param {{ of: any }} props */
function Line({ of: f }) {
  return html`<li><p><time>${moment(f.at)}</time> <b class="name">${name(f.node)}</b> <${Chip} level=${f.is_over ? 'ok' : 'warn'}>${f.is_over ? 'over' : 'going on'}<//>
    ${f.queues === 0 ? ' led nothing' : ` ${plural(f.led, 'queue')} of ${count(f.queues)} led again${f.all_led_ms === null ? '' : ` after ${millis(f.all_led_ms)}`}`}</p>
    <p class="dim">${name(f.explained)}</p></li>`;
}

/** The whole story: a bar of what took how long, and every step. @param {{ of: any }} props */
function Failover({ of: f }) {
  const steps = PHASES.filter(([key]) => typeof f[key] === 'number').map(([key, what]) => ({ key, what, ms: f[key] })).sort((a, b) => a.ms - b.ms);
  const shown = steps.filter(({ key }) => key !== 'back_ms');
  const end = Math.max(1, ...shown.map(({ ms }) => ms));
  return html`<li class="message">
    <p><time>${moment(f.at)}</time> <b class="name">${name(f.node)}</b> was lost: ${CAUSES[/** @type {keyof typeof CAUSES} */ (f.cause)] ?? f.cause} <${Chip} level=${f.is_over ? 'ok' : 'warn'}>${f.is_over ? 'over' : 'going on'}<//></p>
    <p>${name(f.explained)}</p>
    <svg class="timeline" viewBox="0 0 1000 46" preserveAspectRatio="none" role="img" aria-label=${`Timeline: ${shown.map((s) => `${s.what} after ${millis(s.ms)}`).join(', ')}`}>
      ${shown.map(({ ms }, i) => html`<rect class=${`phase p${i % 4}`} x=${((shown[i - 1]?.ms ?? 0) / end) * 1000} y="10" width=${Math.max(2, ((ms - (shown[i - 1]?.ms ?? 0)) / end) * 1000)} height="26" />`)}</svg>
    <${Table} caption="Steps" rows=${[{ key: 'heard', what: 'last heard', ms: 0 }, ...steps]} keyOf=${(/** @type {any} */ s) => s.key} columns=${[
      { key: 'ms', title: 'after', number: true, of: (/** @type {any} */ s) => millis(s.ms) },
      { key: 'took', title: 'took', number: true, of: (/** @type {any} */ s) => { const i = steps.indexOf(s); return i < 0 ? null : `+ ${millis(s.ms - (steps[i - 1]?.ms ?? 0))}`; } },
      { key: 'what', title: 'what', of: (/** @type {any} */ s) => s.what },
    ]} />
    <p class="dim">It led ${plural(f.queues, 'queue')}${f.led_catalog ? ' and the catalog' : ''}; ${plural(f.led, 'queue is', 'queues are')} led again${f.led_by.length > 0 ? ` by ${f.led_by.map((/** @type {any} */ l) => `${name(l.node)} (${count(l.queues)})`).join(', ')}` : ''}. ${plural(f.resent, 'message was', 'messages were')} sent again to other leaders. Silence of ${millis(f.patience_ms)} is enough to give a node up.</p></li>`;
}
