// @ts-check
import { html, useEffect, useState } from '../html.js';
import { call, part } from '../api.js';
import { count, limitName, name, outcome, rate, span } from '../format.js';
import { useBody, useLive } from '../live.js';
import { Chip, Head, Missing, Sorted, To, Unknown } from '../parts.js';
import { place, ask } from '../route.js';
import { verdict } from '../verdict.js';

/** @typedef {import('../../types/openapi').components['schemas']} Api */

/** Ends of the axis, seconds: a minute and thirty days. */
const [FROM, TO] = [60, 30 * 86400];
/** @param {number} s */
const x = (s) => (100 * (Math.log(Math.min(TO, Math.max(FROM, s))) - Math.log(FROM))) / (Math.log(TO) - Math.log(FROM));

export function Horizon() {
  const { query } = place.value;
  const basis = query.basis ?? 'now';
  const path = `/api/staunch/v1/horizon?page=1&page_size=100&basis=${basis}${query.name ? `&name=${encodeURIComponent(query.name)}` : ''}`;
  const known = useLive(path);
  const overview = useBody('/api/overview');
  const body = known?.status === 200 ? known.body : null;
  const told = body && overview ? verdict({ overview, nodes: [], cluster: null, horizon: body }) : null;
  const rows = body?.queues ?? null;
  const shared = (body?.nodes ?? []).map((/** @type {any} */ n) => ({ ...n, isNode: true }));
  return html`
    <${Head} title="Horizon" level=${told?.level} verdict=${told?.text} path=${path} command="horizon" />
    <p class="dim">T = C / R: what a queue can still take before its first limit, by what comes in, as if nobody consumed. The thin part of a bar is the 80 % interval; the mark is the horizon a policy asks for (<code>horizon-slo</code>).</p>
    <${Unknown} of=${[known]} />
    <div class="tools"><label class="filter"><span class="hidden">Filter by name</span><input id="filter" type="search" placeholder="Filter by name  /" value=${query.name ?? ''} onInput=${(/** @type {any} */ e) => ask({ name: e.target.value })} /></label>
      <label>at the rate <select value=${basis} onChange=${(/** @type {any} */ e) => ask({ basis: e.target.value })}><option value="now">of now</option><option value="stress">of stress</option><option value="peak">of the peak</option></select></label></div>
    ${known && known.status !== 200 && html`<${Missing} of=${known} />`}
    <${Sorted} caption="Horizons of nodes and queues" file="horizon" hasFilter=${false} rows=${rows && [...shared, ...rows]} keyOf=${(/** @type {any} */ q) => `${q.isNode ? 'node' : q.vhost} ${q.name}`} first="seconds"
      empty="No queue takes in anything: nothing is on its way to a limit." columns=${[
        { key: 'name', title: 'queue or node', of: (/** @type {any} */ q) => (q.isNode ? html`<span class="name">${name(q.name)}</span> <${Chip}>node<//>` : html`<${To} to=${['queues', q.vhost, q.name]}>${q.name}<//> <span class="dim">${name(q.vhost)}</span>`) },
        { key: 'seconds', title: 'lasts', number: true, plain: (/** @type {any} */ q) => q.horizon[basis].seconds ?? Infinity, of: (/** @type {any} */ q) => html`<b>${span(q.horizon[basis].seconds)}</b>` },
        { key: 'bar', title: '1 m … 1 h … 1 d … 30 d', sort: false, plain: () => '', of: (/** @type {any} */ q) => html`<${Axis} of=${q.horizon[basis]} slo=${q.slo_seconds} />` },
        { key: 'limit', title: 'first limit', plain: (/** @type {any} */ q) => q.horizon[basis].limit, of: (/** @type {any} */ q) => limitName(q.horizon[basis].limit) },
        { key: 'outcome', title: 'then', plain: (/** @type {any} */ q) => q.horizon[basis].outcome, of: (/** @type {any} */ q) => outcome(q.horizon[basis].outcome) },
        { key: 'rate', title: 'in /s', number: true, plain: (/** @type {any} */ q) => q.rates?.messages_in_per_second, of: (/** @type {any} */ q) => rate(q.rates?.messages_in_per_second) },
        { key: 'slo', title: 'SLO', number: true, plain: (/** @type {any} */ q) => q.slo_seconds, of: (/** @type {any} */ q) => (q.slo_seconds ? html`<${Chip} level=${q.is_slo_met === false ? 'bad' : 'ok'}>${span(q.slo_seconds)}<//>` : null) },
      ]} />
    <section class="card"><h2>What if</h2><${WhatIf} queues=${rows ?? []} /></section>`;
}

/** @param {{ of: Api['Bound'], slo: number | null | undefined }} props */
function Axis({ of, slo }) {
  const isNever = of.seconds === null;
  const end = of.seconds === null ? 100 : x(of.seconds);
  const [low, high] = of.seconds === null ? [100, 100] : [x(of.low_seconds ?? of.seconds), of.high_seconds === null ? 100 : x(of.high_seconds)];
  return html`<svg class="axis" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=${isNever ? 'no end in sight' : `${span(of.seconds)}, between ${span(of.low_seconds)} and ${span(of.high_seconds)}`}>
    <rect class="node" width="100" height="10" fill="var(--line)" /><rect class="node" width=${end} height="10" fill=${of.seconds !== null && slo && of.seconds < slo ? 'var(--bad)' : isNever ? 'var(--line)' : 'var(--c1)'} />
    ${!isNever && html`<rect class="node" x=${low} y="4" width=${Math.max(0.5, high - low)} height="2" fill="var(--text)" />`}
    ${slo && html`<line x1=${x(slo)} x2=${x(slo)} y1="0" y2="10" vector-effect="non-scaling-stroke" />`}</svg>`;
}

/** @param {{ queues: any[] }} props */
function WhatIf({ queues }) {
  const [which, setWhich] = useState('');
  const [factor, setFactor] = useState(1);
  const [gone, setGone] = useState(0);
  const [fewer, setFewer] = useState(false);
  const [answer, setAnswer] = useState(/** @type {Api['WhatIfAnswer'] | null} */ (null));
  const [wrong, setWrong] = useState('');
  useEffect(() => {
    const q = queues.find((k) => `${k.vhost} ${k.name}` === which);
    const path = q ? `/api/staunch/v1/horizon/queues/${part(q.vhost)}/${part(q.name)}/what-if` : '/api/staunch/v1/horizon/what-if';
    const body = { rate_factor: factor, ...(gone > 0 && q ? { consumers_gone_seconds: gone * 60 } : {}), ...(fewer ? { one_node_fewer: true } : {}) };
    const timer = setTimeout(() => call('POST', path, body).then((a) => { setAnswer(a); setWrong(''); }, (e) => setWrong(e.message)), 150);
    return () => clearTimeout(timer);
  }, [which, factor, gone, fewer, queues.length]);
  const full = answer?.full;
  return html`
    <div class="tools">
      <label>of <select value=${which} onChange=${(/** @type {any} */ e) => setWhich(e.target.value)}><option value="">this node</option>${queues.map((q) => html`<option value=${`${q.vhost} ${q.name}`}>${name(q.name)}</option>`)}</select></label>
      <label>publishers × ${factor} <input type="range" min="0" max="20" step="0.5" value=${factor} onInput=${(/** @type {any} */ e) => setFactor(Number(e.target.value))} /></label>
      ${which && html`<label>consumers gone for ${gone} min <input type="range" min="0" max="720" step="5" value=${gone} onInput=${(/** @type {any} */ e) => setGone(Number(e.target.value))} /></label>`}
      <label class="flag"><input type="checkbox" checked=${fewer} onChange=${(/** @type {any} */ e) => setFewer(e.target.checked)} /> one node fewer</label>
    </div>
    ${wrong && html`<p class="wrong" role="alert">${wrong}</p>`}
    ${answer && full && html`<p role="status">It would last <b>${span(full.seconds)}</b>${full.seconds !== null ? ` (${span(full.low_seconds)} – ${span(full.high_seconds)}), then ${outcome(full.outcome)}: ${limitName(full.limit)}` : ': no limit would be reached'}. As it is: ${span(answer.as_is.now.seconds)}.
      ${answer.messages_at_return && ` When the consumers return ${count(answer.messages_at_return.messages)} messages wait.`}
      ${answer.to_empty?.seconds ? ` It would be empty again in ${span(answer.to_empty.seconds)}.` : ''}</p>`}`;
}

