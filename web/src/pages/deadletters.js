// @ts-check
import { html, useState } from '../html.js';
import { call, part } from '../api.js';
import { act, ask } from '../dialog.js';
import { count, moment, name, plural, quoted, span, value } from '../format.js';
import { useLive } from '../live.js';
import { Chip, Head, Missing, Sorted, Table, To, Unknown } from '../parts.js';
import { Message } from './queue.js';

const JOBS = '/api/staunch/v1/jobs';
const PATH = '/api/staunch/v1/dead-letters';
const REASONS = { rejected: 'rejected by a consumer', expired: 'their time was up', maxlen: 'the queue was full', delivery_limit: 'returned too often' };

export function DeadLetters() {
  const known = useLive(PATH);
  const rows = known?.status === 200 ? known.body : null;
  const sum = rows?.reduce((/** @type {number} */ n, /** @type {any} */ q) => n + (q.messages ?? 0), 0);
  const verdict = rows && (rows.length === 0 ? 'No queue has a dead-letter exchange.' : sum === 0 ? 'No dead letter waits.' : `${plural(sum, 'dead letter')} in ${plural(rows.filter((/** @type {any} */ q) => q.messages > 0).length, 'queue')}.`);
  return html`
    <${Head} title="Dead letters" verdict=${verdict} level=${sum > 0 ? 'warn' : 'ok'} path=${PATH} command="dlq ls" />
    <${Unknown} of=${[known]} />
    ${known && known.status !== 200 ? html`<${Missing} of=${known} />` : html`
    <${Sorted} caption="Queues of dead letters" file="dead-letters" rows=${rows} keyOf=${(/** @type {any} */ q) => `${q.vhost} ${q.name}`} empty="A queue sends its dead letters on with x-dead-letter-exchange, or by the policy key dead-letter-exchange." columns=${[
      { key: 'name', title: 'queue', of: (/** @type {any} */ q) => html`<${To} to=${['dead-letters', q.vhost, q.name]}>${q.name}<//>` },
      { key: 'vhost', title: 'vhost', of: (/** @type {any} */ q) => name(q.vhost) },
      { key: 'messages', title: 'messages', number: true, of: (/** @type {any} */ q) => count(q.messages) },
      { key: 'consumers', title: 'consumers', number: true, of: (/** @type {any} */ q) => count(q.consumers) },
      { key: 'of', title: 'dead letters of', of: (/** @type {any} */ q) => q.of.slice(0, 6).map((/** @type {string} */ n) => html`<${To} to=${['queues', q.vhost, n]}>${n}<//> `) },
    ]} />`}
    <section class="card"><h2>Jobs</h2><${Jobs} /></section>`;
}

/** One queue of dead letters, by reason and origin. @param {{ parts: string[] }} props */
export function DeadLetterQueue({ parts: [, vhost, queue] }) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [reason, setReason] = useState('');
  const [many, setMany] = useState('1000');
  const path = `${PATH}/${part(vhost)}/${part(queue)}`;
  const look = () => act(async () => {
    setFound(await call('POST', path, { count: Number(many) }));
  }, 'Looked.');
  const begin = (/** @type {string} */ kind, /** @type {any} */ group) => ask({
    title: kind === 'replay' ? 'Replay dead letters' : kind === 'move' ? 'Move dead letters' : 'Throw dead letters away?',
    verb: kind === 'drop' ? 'Throw away' : 'Begin',
    danger: kind === 'drop',
    text: html`<p>${group ? html`<b>${plural(group.messages, 'message')}</b> of those that were looked at, and what else in <b class="name">${name(queue)}</b> died in <b class="name">${name(group.queue)}</b> because ${REASONS[/** @type {keyof typeof REASONS} */ (group.reason)] ?? group.reason},` : html`All of <b class="name">${name(queue)}</b>`}
      ${kind === 'replay' ? ' goes back to the queue where it died first.' : kind === 'move' ? ' goes to another queue.' : ' is gone for good.'} ${kind === 'drop' ? 'It cannot be undone.' : 'Each is confirmed there before it is taken away here.'} A dry run only counts.</p>`,
    fields: [
      ...(kind === 'move' ? [{ name: 'to', label: 'To the queue', required: true }] : []),
      { name: 'rate', label: 'At most so many a second', kind: 'number', hint: 'empty: as fast as it goes' },
      { name: 'count', label: 'At most so many', kind: 'number', hint: 'empty: all' },
      { name: 'dry', label: 'Dry run', kind: 'flag', value: true },
    ],
    run: async (v) => {
      await call('POST', JOBS, {
        kind, vhost, queue, dry_run: v.dry,
        ...(group ? { filter: { reason: group.reason, origin: group.queue } } : {}),
        ...(v.to ? { to: v.to } : {}), ...(v.rate ? { rate: Number(v.rate) } : {}), ...(v.count ? { count: Number(v.count) } : {}),
      });
      return v.dry ? 'Counting: see the jobs below.' : 'Begun: see the jobs below.';
    },
  });
  const groups = found?.groups.filter((/** @type {any} */ g) => reason === '' || g.reason === reason) ?? null;
  const actions = (/** @type {any} */ g) => html`<button class="quiet" onClick=${() => begin('replay', g)}>replay</button><button class="quiet" onClick=${() => begin('move', g)}>move</button><button class="quiet" onClick=${() => begin('drop', g)}>throw away</button>`;
  return html`
    <${Head} title=${html`<span class="name">${name(queue)}</span> <small>dead letters in ${name(vhost)}</small>`} path=${PATH} command=${`dlq show ${quoted(queue)} --vhost ${quoted(vhost)}`}
      actions=${html`<button class="primary" onClick=${() => begin('replay', null)}>Replay all</button><button onClick=${() => begin('move', null)}>Move all</button><button class="danger" onClick=${() => begin('drop', null)}>Throw all away</button>`} />
    <section class="card"><h2>Why and where they died <${To} to=${['queues', vhost, queue]}>the queue<//></h2>
      <div class="tools"><label>the first <input type="number" min="1" max="10000" value=${many} onInput=${(/** @type {any} */ e) => setMany(e.target.value)} /></label><button onClick=${look}>Look</button>
        <span class="dim">They return to their places, marked as redelivered.</span>
        ${found && html`<label>reason <select value=${reason} onChange=${(/** @type {any} */ e) => setReason(e.target.value)}><option value="">any</option>${Object.keys(REASONS).map((r) => html`<option value=${r}>${r}</option>`)}</select></label>`}</div>
      ${found && html`<p role="status">${plural(found.looked_at, 'message')} looked at, ${count(found.left)} not.${found.never_died > 0 ? ` ${plural(found.never_died, 'message is', 'messages are')} no dead letter.` : ''}</p>
        ${groups.map((/** @type {any} */ g) => html`<div class="message"><p><b>${plural(g.messages, 'message')}</b> <${Chip} level="warn">${g.reason}<//> ${REASONS[/** @type {keyof typeof REASONS} */ (g.reason)] ?? ''} in <${To} to=${['queues', vhost, g.queue]}>${g.queue}<//>, published to <b class="name">${g.exchange === '' ? '(default exchange)' : name(g.exchange)}</b> with <span class="name">${name(g.routing_key)}</span></p>
          <p class="dim">${g.first_at ? `from ${moment(g.first_at * 1000)} to ${moment((g.last_at ?? g.first_at) * 1000)}, ` : ''}died up to ${plural(g.deaths, 'time')}${g.replays > 0 ? `, replayed up to ${plural(g.replays, 'time')}` : ''} ${actions(g)}</p>
          <details><summary>a sample</summary><ol class="messages"><${Message} of=${g.sample} /></ol></details></div>`)}`}
    </section>
    <section class="card"><h2>Jobs</h2><${Jobs} of=${queue} /></section>`;
}

/** Messages on their way. @param {{ of?: string }} props */
export function Jobs({ of }) {
  const known = useLive(JOBS);
  if (known?.status !== 200) return html`<${Missing} of=${known} />`;
  const rows = known.body.filter((/** @type {any} */ j) => !of || j.task.queue === of);
  return html`<${Table} caption="Jobs" rows=${rows} keyOf=${(/** @type {any} */ j) => j.id} empty="No job runs, or has run of late." columns=${[
    { key: 'task', title: 'what', of: (/** @type {any} */ j) => html`${j.task.kind}${j.task.dry_run ? ' (dry run)' : ''} <span class="name">${name(j.task.queue)}</span>${j.task.to ? html` › <span class="name">${name(j.task.to)}</span>` : ''} <span class="dim">${value(j.task.filter?.reason ?? '')}</span>` },
    { key: 'state', title: 'state', of: (/** @type {any} */ j) => html`<${Chip} level=${j.state === 'failed' ? 'bad' : j.state === 'done' ? 'ok' : 'warn'} title=${j.error ?? undefined}>${j.state}<//> ${j.error ? html`<span class="wrong">${name(j.error)}</span>` : ''}` },
    { key: 'progress', title: 'progress', of: (/** @type {any} */ j) => html`<progress max=${Math.max(1, j.progress.total)} value=${j.state === 'done' ? Math.max(1, j.progress.total) : j.progress.seen} aria-label="Progress"></progress>` },
    { key: 'done', title: 'done', number: true, of: (/** @type {any} */ j) => `${count(j.progress.done)} of ${count(j.progress.total)}` },
    { key: 'stayed', title: 'stayed', number: true, of: (/** @type {any} */ j) => `${count(j.progress.stayed + j.progress.refused)}` },
    { key: 'eta', title: 'left', number: true, of: (/** @type {any} */ j) => (j.state === 'running' ? span(j.eta_seconds ?? undefined) : null) },
    { key: 'user', title: 'by', of: (/** @type {any} */ j) => name(j.user) },
    { key: 'do', title: '', of: (/** @type {any} */ j) => j.state === 'running' && html`<button class="quiet" onClick=${() => act(() => call('DELETE', `${JOBS}/${part(j.id)}`), 'It ends where it is.')}>cancel</button>` },
  ]} />`;
}
