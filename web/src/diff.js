// @ts-check
/** What a definitions file would change. Pure. */

/** What makes an object of a kind itself. @type {Record<string, string[]>} */
export const KINDS = {
  vhosts: ['name'],
  users: ['name'],
  permissions: ['vhost', 'user'],
  topic_permissions: ['vhost', 'user', 'exchange'],
  parameters: ['component', 'vhost', 'name'],
  global_parameters: ['name'],
  policies: ['vhost', 'name'],
  operator_policies: ['vhost', 'name'],
  queues: ['vhost', 'name'],
  exchanges: ['vhost', 'name'],
  bindings: ['vhost', 'source', 'destination_type', 'destination', 'routing_key', 'arguments'],
};

/** With keys in order, so that what is equal looks equal. @param {any} value @returns {any} */
function ordered(value) {
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map((k) => [k, ordered(value[k])]));
}

/** @param {any} value */
const text = (value) => JSON.stringify(ordered(value));

/**
 * @param {any} now definitions as they are @param {any} wanted definitions of a file
 * @returns {{ kind: string, name: string, is: 'added' | 'changed', what: string[] }[]}
 */
export function diff(now, wanted) {
  const found = [];
  for (const [kind, keys] of Object.entries(KINDS)) {
    const id = (/** @type {any} */ o) => text(keys.map((k) => o[k] ?? (k === 'vhost' ? '/' : null)));
    const there = new Map((now?.[kind] ?? []).map((/** @type {any} */ o) => [id(o), o]));
    for (const object of wanted?.[kind] ?? []) {
      const old = there.get(id(object));
      const shown = keys.filter((k) => k !== 'arguments').map((k) => object[k] ?? '').join(' ');
      if (!old) found.push({ kind, name: shown, is: /** @type {const} */ ('added'), what: [] });
      else {
        const what = Object.keys(object).filter((k) => text(object[k]) !== text(old[k]));
        if (what.length > 0) found.push({ kind, name: shown, is: /** @type {const} */ ('changed'), what });
      }
    }
  }
  return found;
}
