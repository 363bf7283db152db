// @ts-check
import { html } from '../html.js';
import { call, may, part } from '../api.js';
import { act, ask } from '../dialog.js';
import { bytes, count, name, plural, span } from '../format.js';
import { useBody, useLive } from '../live.js';
import { Bar } from '../chart.js';
import { Chip, Head, Missing, Table, To, Unknown } from '../parts.js';
import { Lost } from './failovers.js';
import { Used } from './overview.js';

/** @typedef {import('../../types/openapi').components['schemas']} Api */

const PATH = '/api/staunch/v1/cluster';

export function Cluster() {
  const known = useLive(PATH);
  const nodesKnown = useLive('/api/nodes');
  const nodes = nodesKnown?.status === 200 ? nodesKnown.body : null;
  if (known?.status !== 200) return html`<${Head} title="Cluster" /><${Missing} of=${known} />`;
  /** @type {Api['Cluster']} */
  const { nodes: members, groups, clustered, catalog_leader: catalog } = known.body;
  const down = members.filter((/** @type {Api['ClusterNode']} */ m) => !m.up).length;
  const level = groups.leaderless > 0 ? 'bad' : down > 0 || groups.single_copy > 0 ? 'warn' : 'ok';
  const verdict = !clustered ? 'This node stands alone.'
    : groups.leaderless > 0 ? `${plural(groups.leaderless, 'queue')} without a leader.`
      : down > 0 ? `${plural(down, 'node')} of ${members.length} down; every queue has a leader.`
        : groups.single_copy > 0 ? `${plural(groups.single_copy, 'queue is', 'queues are')} kept by one node only.` : `All ${members.length} nodes are up and every queue has a leader.`;
  const leads = Math.max(1, ...members.map((/** @type {Api['ClusterNode']} */ m) => m.leaders));
  const of = (/** @type {Api['ClusterNode']} */ m) => nodes?.find((/** @type {any} */ n) => n.name === m.name);
  return html`
    <${Head} title="Cluster" verdict=${verdict} level=${level} path=${PATH} command="cluster status"
      actions=${clustered && may('administrator') && html`<button onClick=${() => ask({
        title: 'Rebalance?', verb: 'Rebalance', text: html`<p>Moves a few replicas from nodes that keep more to nodes that keep fewer. Queues go on meanwhile.</p>`,
        run: () => call('POST', `${PATH}/rebalance`), said: 'Replicas are on their way.' })}>Rebalance</button>`} />
    <${Unknown} of=${[nodesKnown]} />
    <${Table} caption="Nodes" rows=${members} keyOf=${(/** @type {Api['ClusterNode']} */ m) => m.name} columns=${[
      { key: 'name', title: 'node', of: (/** @type {Api['ClusterNode']} */ m) => html`<b class="name">${name(m.name)}</b> ${m.name === catalog && clustered ? html`<${Chip}>leads the catalog<//>` : ''} ${m.witness ? html`<${Chip}>witness<//>` : ''}` },
      { key: 'state', title: 'state', of: (/** @type {Api['ClusterNode']} */ m) => html`<${Chip} level=${!m.up ? 'bad' : m.suspected || m.drained ? 'warn' : 'ok'}>${!m.up ? `down${m.away_seconds ? ` for ${span(m.away_seconds)}` : ''}` : m.suspected ? 'suspected' : m.drained ? 'drained' : m.state === 'member' ? 'up' : m.state}<//>` },
      { key: 'leaders', title: 'leads', of: (/** @type {Api['ClusterNode']} */ m) => html`<span class="used">${count(m.leaders)} <${Bar} part=${m.leaders / leads} label=${`leads ${m.leaders}`} /></span>` },
      { key: 'queues', title: 'keeps', number: true, of: (/** @type {Api['ClusterNode']} */ m) => count(m.queues) },
      { key: 'repairing', title: 'repairs', number: true, of: (/** @type {Api['ClusterNode']} */ m) => count(m.repairing) },
      { key: 'memory', title: 'memory', of: (/** @type {Api['ClusterNode']} */ m) => (of(m)?.running ? html`<${Used} used=${of(m).mem_used} of=${of(m).mem_limit} isBad=${of(m).mem_alarm} />` : html`<span class="dim">unknown</span>`) },
      { key: 'disk', title: 'disk free', number: true, of: (/** @type {Api['ClusterNode']} */ m) => (of(m)?.running ? html`${bytes(of(m).disk_free)} ${of(m).disk_free_alarm ? html`<${Chip} level="bad">low<//>` : ''}` : html`<span class="dim">unknown</span>`) },
      { key: 'files', title: 'files', number: true, of: (/** @type {Api['ClusterNode']} */ m) => (of(m)?.running ? count(of(m).fd_used) : null) },
      { key: 'uptime', title: 'up for', number: true, of: (/** @type {Api['ClusterNode']} */ m) => (of(m)?.running ? span(Math.round(of(m).uptime / 1000)) : null) },
      { key: 'do', title: '', of: (/** @type {Api['ClusterNode']} */ m) => clustered && may('administrator') && html`<${Actions} of=${m} />` },
    ]} />
    ${groups.leaderless_queues?.length > 0 && html`<section class="card"><h2>Without a leader</h2><ul class="plain-list">${groups.leaderless_queues.slice(0, 100).map((/** @type {any} */ q) => html`<li><${To} to=${['queues', q.vhost, q.name]}>${q.name}<//> <span class="dim">${name(q.vhost)}</span></li>`)}</ul></section>`}
    <${Spread} />
    <section class="card"><h2>Failovers <a href="#/failovers">all, step by step</a></h2><${Lost} most=${5} /></section>`;
}

/** @param {{ of: Api['ClusterNode'] }} props */
function Actions({ of: m }) {
  const path = `/api/staunch/v1/nodes/${part(m.name)}`;
  const drain = async () => {
    const check = await call('GET', `${path}/safe-to-stop`).catch(() => null);
    ask({
      title: `Drain ${name(m.name)}?`,
      verb: 'Drain',
      danger: check?.safe === false,
      text: html`<p>Its <b>${plural(m.leaders, 'leader')}</b> go to other nodes at once, and it leads nothing until it is revived. Clients stay connected.</p>
        ${check && html`<p>${check.safe ? 'It could then be stopped: nothing would stand still.' : html`<b>Not safe to stop:</b> ${plural(check.queues, 'queue')} would stand still without it${check.catalog ? ', and so would definitions' : ''}.`}</p>`}`,
      run: () => call('PUT', `${path}/drain`),
      said: 'It leads nothing any more.',
    });
  };
  return m.drained
    ? html`<button onClick=${() => act(() => call('DELETE', `${path}/drain`), 'It may lead again.')}>Revive</button>`
    : html`<button onClick=${drain}>Drain</button>`;
}

/** Who leads the queues that hold the most. */
function Spread() {
  const body = useBody('/api/queues?page=1&page_size=20&type=quorum&sort=messages&sort_reverse=true&columns=name,vhost,node,state,messages');
  if (!body || body.items.length === 0) return null;
  return html`<section class="card"><h2>Who leads the fullest quorum queues</h2>
    <${Table} caption="Leaders" rows=${body.items} keyOf=${(/** @type {any} */ q) => `${q.vhost} ${q.name}`} columns=${[
      { key: 'name', title: 'queue', of: (/** @type {any} */ q) => html`<${To} to=${['queues', q.vhost, q.name]}>${q.name}<//>` },
      { key: 'vhost', title: 'vhost', of: (/** @type {any} */ q) => name(q.vhost) },
      { key: 'messages', title: 'messages', number: true, of: (/** @type {any} */ q) => count(q.messages) },
      { key: 'node', title: 'led by', of: (/** @type {any} */ q) => name(q.node) },
    ]} /></section>`;
}
