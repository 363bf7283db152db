// @ts-check
/** Where the page is: `#/queues/%2F/orders?page=2`, as RabbitMQ's page writes it. */
import { signal } from '@preact/signals';

/** @typedef {{ parts: string[], query: Record<string, string> }} Place */

/** @param {string} hash @returns {Place} */
export function parse(hash) {
  const [path, query = ''] = hash.replace(/^#?\/?/, '').split(/\?(.*)/s);
  const parts = path.split('/').filter((p) => p !== '').map(decode);
  return { parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

/** @param {string} part */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** @param {string[]} parts @param {Record<string, any>} [query] */
export function link(parts, query = {}) {
  const kept = Object.entries(query).filter(([, v]) => v !== undefined && v !== null && v !== '');
  const text = new URLSearchParams(kept.map(([k, v]) => [k, String(v)])).toString();
  return `#/${parts.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

/** Where the page is now. */
export const place = signal(parse(globalThis.location?.hash ?? ''));
globalThis.addEventListener?.('hashchange', () => {
  place.value = parse(location.hash);
});

/** Goes somewhere. @param {string[]} parts @param {Record<string, any>} [query] */
export function go(parts, query) {
  location.hash = link(parts, query);
}

/** Changes a part of the query, without a step back for each letter typed. @param {Record<string, any>} more */
export function ask(more) {
  const { parts, query } = place.value;
  history.replaceState(null, '', link(parts, { ...query, ...more }));
  place.value = parse(location.hash);
}
