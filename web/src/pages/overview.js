// @ts-check
import { html } from '../html.js';
import { may } from '../api.js';
import { Bar, Chart, Spark } from '../chart.js';
import { bytes, count, gauge, limitName, name, outcome, outcomeWord, rate, ratesOf, short, span } from '../format.js';
import { useLive } from '../live.js';
import { Chip, Head, Missing, Table, To, Unknown } from '../parts.js';
import { verdict, worstOf } from '../verdict.js';
import { Lost } from './failovers.js';

/** Ten minutes, as far as the node remembers. */
export const PAST = 'msg_rates_age=600&msg_rates_incr=5&lengths_age=600&lengths_incr=5';
const PATH = `/api/overview?${PAST}`;

export function Overview() {
  const isMonitor = may('monitoring', 'administrator');
  const known = useLive(PATH);
  const nodesKnown = useLive(isMonitor ? '/api/nodes?columns=name,running,mem_used,mem_limit,mem_alarm,disk_free,disk_free_limit,disk_free_alarm,fd_used,fd_total,uptime,being_drained,sockets_used' : null);
  const clusterKnown = useLive(isMonitor ? '/api/staunch/v1/cluster' : null);
  const horizonKnown = useLive(isMonitor ? '/api/staunch/v1/horizon?page=1&page_size=8' : null);
  const good = (/** @type {any} */ k) => (k?.status === 200 ? k.body : null);
  const [overview, nodes, cluster, horizon] = [known, nodesKnown, clusterKnown, horizonKnown].map(good);
  if (!overview) return html`<${Head} title="Overview" /><${Missing} of=${known} />`;
  const { level, text, rest } = verdict({ overview, nodes, cluster, horizon });
  const stats = overview.message_stats ?? {};
  const totals = overview.queue_totals ?? {};
  return html`
    <${Head} title="Overview" verdict=${text} level=${level} path="/api/overview" command="status" />
    <p class="dim under">${rest}</p>
    <${Unknown} of=${[known, nodesKnown]} />
    <section class="tiles" aria-label="The whole in numbers">
      <${Tile} title="publish" of=${stats.publish_details?.rate} details=${stats.publish_details} isRate />
      <${Tile} title="deliver" of=${stats.deliver_get_details?.rate} details=${stats.deliver_get_details} isRate />
      <${Tile} title="acknowledge" of=${stats.ack_details?.rate} details=${stats.ack_details} isRate />
      <${Tile} title="ready" of=${totals.messages_ready} details=${totals.messages_ready_details} />
      <${Tile} title="unacknowledged" of=${totals.messages_unacknowledged} details=${totals.messages_unacknowledged_details} />
      ${isMonitor && html`<${HorizonTile} horizon=${horizon} />`}
    </section>
    <div class="halves">
      <section class="card"><${Chart} title="Messages a second" unit=${short} series=${[
        { label: 'publish', data: ratesOf(stats.publish_details), color: '--c1' },
        { label: 'deliver', data: ratesOf(stats.deliver_get_details), color: '--c2', dash: [6, 3] },
        { label: 'acknowledge', data: ratesOf(stats.ack_details), color: '--c3', dash: [2, 3] },
      ]} /></section>
      <section class="card"><${Chart} title="Messages kept" unit=${short} series=${[
        { label: 'ready', data: gauge(totals.messages_ready_details), color: '--c4' },
        { label: 'unacknowledged', data: gauge(totals.messages_unacknowledged_details), color: '--c5', dash: [6, 3] },
      ]} /></section>
    </div>
    ${isMonitor && html`<div class="halves">
      <section class="card"><h2>First at a limit <a href="#/horizon">all</a></h2><${Risks} horizon=${horizon} /></section>
      <section class="card"><h2>Nodes <a href="#/cluster">all</a></h2><${Nodes} nodes=${nodes} cluster=${cluster} /></section>
    </div>
    <section class="card"><h2>Failovers <a href="#/failovers">all</a></h2><${Lost} most=${5} /></section>`}`;
}

/** @param {{ title: string, of: any, details: any, isRate?: boolean }} props */
function Tile({ title, of, details, isRate }) {
  const values = (isRate ? ratesOf(details) : gauge(details))[1];
  return html`<div class="tile"><h2>${title}</h2><p class="big">${isRate ? rate(of) : count(of)}${isRate && html`<small> /s</small>`}</p>
    <${Spark} values=${values} label=${`${title}, the last minutes`} /></div>`;
}

/** @param {{ horizon: any }} props */
function HorizonTile({ horizon }) {
  const worst = worstOf(horizon);
  const node = (horizon?.nodes ?? []).filter((/** @type {any} */ n) => typeof n.horizon.now.seconds === 'number')
    .sort((/** @type {any} */ a, /** @type {any} */ b) => a.horizon.now.seconds - b.horizon.now.seconds)[0];
  const first = [worst, node].filter(Boolean).sort((a, b) => a.horizon.now.seconds - b.horizon.now.seconds)[0];
  return html`<div class="tile"><h2 title="T = C / R: what can still be taken, by what comes in while nothing leaves">horizon</h2>
    <p class="big">${horizon ? span(first ? first.horizon.now.seconds : null) : 'unknown'}</p>
    <p class="dim">${first ? html`${name(first.name)}: ${limitName(first.horizon.now.limit)}` : 'nothing on its way to a limit'}</p></div>`;
}

/** @param {{ horizon: any }} props */
export function Risks({ horizon }) {
  const rows = horizon ? horizon.queues.filter((/** @type {any} */ q) => q.horizon.now.seconds !== null).slice(0, 6) : null;
  return html`<${Table} caption="Queues first at a limit" rows=${rows} keyOf=${(/** @type {any} */ q) => `${q.vhost} ${q.name}`}
    empty="No queue is on its way to a limit."
    columns=${[
      { key: 'name', title: 'queue', of: (/** @type {any} */ q) => html`<${To} to=${['queues', q.vhost, q.name]}>${q.name}<//>${q.is_slo_met === false && html` <${Chip} level="warn">SLO ${span(q.slo_seconds)}<//>`}` },
      { key: 'now', title: 'now', number: true, of: (/** @type {any} */ q) => span(q.horizon.now.seconds) },
      { key: 'peak', title: 'at peak', number: true, of: (/** @type {any} */ q) => span(q.horizon.peak.seconds) },
      { key: 'limit', title: 'limit', of: (/** @type {any} */ q) => limitName(q.horizon.now.limit) },
      { key: 'outcome', title: 'then', of: (/** @type {any} */ q) => html`<span title=${outcome(q.horizon.now.outcome)}>${outcomeWord(q.horizon.now.outcome)}</span>` },
    ]} />`;
}

/** @param {{ nodes: any[] | null, cluster: any }} props */
function Nodes({ nodes, cluster }) {
  const member = (/** @type {any} */ n) => cluster?.nodes.find((/** @type {any} */ m) => m.name === n.name);
  return html`<${Table} caption="Nodes" rows=${nodes} keyOf=${(/** @type {any} */ n) => n.name} columns=${[
    { key: 'name', title: 'node', of: (/** @type {any} */ n) => html`<span class="name">${name(n.name)}</span> ${member(n)?.drained && html`<${Chip} level="warn">drained<//>`}` },
    { key: 'state', title: 'state', of: (/** @type {any} */ n) => (n.running ? html`<${Chip} level="ok">up<//>` : html`<${Chip} level="bad">down<//>`) },
    { key: 'leads', title: 'leads', number: true, of: (/** @type {any} */ n) => (cluster?.clustered ? count(member(n)?.leaders) : 'alone') },
    { key: 'memory', title: 'memory', of: (/** @type {any} */ n) => html`<${Used} used=${n.mem_used} of=${n.mem_limit} isBad=${n.mem_alarm} />` },
    { key: 'disk', title: 'disk free', number: true, of: (/** @type {any} */ n) => html`${bytes(n.disk_free)}${n.disk_free_alarm ? html` <${Chip} level="bad">low<//>` : ''}` },
    { key: 'uptime', title: 'up for', number: true, of: (/** @type {any} */ n) => (n.running ? span(Math.round(n.uptime / 1000)) : '–') },
  ]} />`;
}

/** @param {{ used: any, of: any, isBad?: boolean }} props */
export function Used({ used, of, isBad }) {
  return html`<span class="used">${bytes(used)} <${Bar} part=${used / of} isBad=${isBad} label=${`${bytes(used)} of ${bytes(of)}`} /></span>`;
}

