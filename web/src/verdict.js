// @ts-check
/** The whole in one sentence. Pure. */
import { limitName, name, outcome, plural, span } from './format.js';

/** @typedef {import('../types/openapi').components['schemas']} Api */

/** A horizon that is worth a word, seconds. */
export const SOON = 30 * 60;

/**
 * @param {{ overview: any, nodes: any[] | null, cluster: Api['Cluster'] | null, horizon: Api['HorizonList'] | null }} of
 * @returns {{ level: string, text: string, rest: string }}
 */
export function verdict({ overview, nodes, cluster, horizon }) {
  const members = cluster?.nodes ?? [];
  const down = members.filter((/** @type {any} */ n) => !n.up);
  const alarmed = (nodes ?? []).filter((n) => n.mem_alarm || n.disk_free_alarm);
  const leaderless = cluster?.groups?.leaderless ?? 0;
  const facts = [];
  if (members.length > 0) facts.push(`${members.length - down.length} of ${plural(members.length, 'node')} up`);
  if (cluster?.clustered) facts.push(leaderless === 0 ? 'every queue has a leader' : `${plural(leaderless, 'queue')} without a leader`);
  if (overview) facts.push(`${plural(overview.object_totals?.queues ?? 0, 'queue')}, ${plural(overview.object_totals?.connections ?? 0, 'connection')}`);
  const rest = facts.join(' · ');
  const say = (/** @type {string} */ level, /** @type {string} */ text) => ({ level, text, rest });
  if (!overview) return say('unknown', 'Nothing is known yet.');
  if (alarmed.length > 0) {
    const kinds = alarmed.map((n) => `${n.mem_alarm ? 'memory' : 'disk'} of ${name(n.name)}`).join(', ');
    return say('bad', `Publishers are blocked: ${kinds} has run low.`);
  }
  if (leaderless > 0) return say('bad', `${plural(leaderless, 'queue has', 'queues have')} no leader and stand${leaderless === 1 ? 's' : ''} still.`);
  if (down.length > 0) return say('warn', `${down.map((/** @type {any} */ n) => name(n.name)).join(', ')} ${down.length === 1 ? 'is' : 'are'} down; the others have taken over.`);
  const missed = (horizon?.queues ?? []).filter((/** @type {Api['QueueHorizon']} */ q) => q.is_slo_met === false);
  const worst = worstOf(horizon);
  const first = worst && `First: ${name(worst.name)}, where ${outcome(worst.horizon.now.outcome)} in ${span(worst.horizon.now.seconds)} (${limitName(worst.horizon.now.limit)}).`;
  if (missed.length > 0) return say('warn', `${plural(missed.length, 'queue is', 'queues are')} below the horizon they should have. ${first ?? ''}`.trim());
  if (worst && worst.horizon.now.seconds < SOON) return say('warn', `${first}`);
  if ((overview.unknown_nodes ?? []).length > 0) return say('unknown', `${overview.unknown_nodes.map((/** @type {any} */ n) => name(n)).join(', ')} ${overview.unknown_nodes.length === 1 ? 'does' : 'do'} not answer.`);
  if (worst) return say('ok', `All is well. The first limit is ${span(worst.horizon.now.seconds)} away, in ${name(worst.name)}.`);
  return say('ok', 'All is well. No queue is on its way to a limit.');
}

/** The queue that is first at a limit. @param {any} horizon */
export function worstOf(horizon) {
  const soon = (horizon?.queues ?? []).filter((/** @type {any} */ q) => typeof q.horizon?.now?.seconds === 'number');
  return soon.sort((/** @type {any} */ a, /** @type {any} */ b) => a.horizon.now.seconds - b.horizon.now.seconds)[0] ?? null;
}
