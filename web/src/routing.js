// @ts-check
/** Where a message would go, from the bindings that there are. Pure. */

/** Exchanges that are looked through for one message. */
const EXCHANGES_MAX = 1000;

/** Whether a topic pattern takes a key (AMQP 0-9-1, topic exchange). @param {string} pattern @param {string} key */
export function topic(pattern, key) {
  const want = pattern.split('.');
  const have = key === '' ? [] : key.split('.');
  if (pattern === '') return key === '';
  // Which numbers of words may have been taken.
  let at = new Set([0]);
  for (const word of want) {
    const next = new Set();
    for (const i of at) {
      if (word === '#') for (let j = i; j <= have.length; j += 1) next.add(j);
      else if (i < have.length && (word === '*' || word === have[i])) next.add(i + 1);
    }
    at = next;
  }
  return at.has(have.length);
}

/** Whether a headers binding takes headers. @param {Record<string, any>} wanted @param {Record<string, any>} headers */
export function headersFit(wanted, headers) {
  const match = wanted['x-match'] ?? 'all';
  const pairs = Object.entries(wanted).filter(([k]) => (match.endsWith('-with-x') ? k !== 'x-match' : !k.startsWith('x-')));
  const fits = pairs.map(([k, v]) => k in headers && (v === null || JSON.stringify(headers[k]) === JSON.stringify(v)));
  return match.startsWith('any') ? fits.some(Boolean) : fits.every(Boolean);
}

/**
 * @param {{ exchanges: any[], bindings: any[], queues?: string[] }} known of one virtual host
 * @param {{ exchange: string, key: string, headers?: Record<string, any> }} message
 * @returns {{ queues: string[], bindings: any[], exchanges: string[], unroutable: string[] }}
 */
export function route({ exchanges, bindings }, { exchange, key, headers = {} }) {
  const kind = new Map(exchanges.map((e) => [e.name, e]));
  /** @type {Set<string>} */ const queues = new Set();
  /** @type {Set<any>} */ const lit = new Set();
  /** @type {Set<string>} */ const seen = new Set();
  /** @type {string[]} */ const unroutable = [];
  const pending = [exchange];
  while (pending.length > 0 && seen.size < EXCHANGES_MAX) {
    const at = /** @type {string} */ (pending.pop());
    if (seen.has(at)) continue;
    seen.add(at);
    const type = at === '' ? 'direct' : kind.get(at)?.type;
    const taken = bindings.filter((b) => b.source === at && takes(type, b, key, headers));
    for (const b of taken) {
      lit.add(b);
      if (b.destination_type === 'queue') queues.add(b.destination);
      else pending.push(b.destination);
    }
    if (taken.length === 0) {
      const alternate = kind.get(at)?.arguments?.['alternate-exchange'];
      if (alternate !== undefined && kind.has(alternate)) pending.push(alternate);
      else unroutable.push(at);
    }
  }
  return { queues: [...queues].sort(), bindings: [...lit], exchanges: [...seen], unroutable };
}

/** @param {string | undefined} type @param {any} binding @param {string} key @param {Record<string, any>} headers */
function takes(type, binding, key, headers) {
  if (type === 'fanout') return true;
  if (type === 'topic') return topic(binding.routing_key, key);
  if (type === 'headers') return headersFit(binding.arguments ?? {}, headers);
  return binding.routing_key === key;
}

/**
 * Layers of a graph from left to right: each node right of what leads to it, as far as there is no circle.
 * @param {{ from: string, to: string }[]} edges @returns {Map<string, number>}
 */
export function layers(edges) {
  const nodes = new Set(edges.flatMap(({ from, to }) => [from, to]));
  const layer = new Map([...nodes].map((n) => [n, 0]));
  for (let round = 0; round < Math.min(8, nodes.size); round += 1) {
    for (const { from, to } of edges) {
      if (from !== to) layer.set(to, Math.max(layer.get(to) ?? 0, Math.min(7, (layer.get(from) ?? 0) + 1)));
    }
  }
  return layer;
}
