// @ts-check
/** How numbers, times and names are written. Pure: no document, no clock. */

export const UNKNOWN = 'unknown';
const THIN = '\u202f';

/** A count with separators. @param {any} n */
export function count(n) {
  if (typeof n !== 'number' || !Number.isFinite(n)) return UNKNOWN;
  return Math.round(n).toString().replace(/\B(?=(\d{3})+(?!\d))/g, THIN);
}

/** A rate per second; small ones keep a digit. @param {any} n */
export function rate(n) {
  if (typeof n !== 'number' || !Number.isFinite(n)) return UNKNOWN;
  if (n === 0) return '0';
  if (Math.abs(n) < 0.05) return '< 0.1';
  return Math.abs(n) < 10 ? n.toFixed(1) : count(n);
}

/** Short for tiles and axes: 48.2k. @param {any} n */
export function short(n) {
  if (typeof n !== 'number' || !Number.isFinite(n)) return UNKNOWN;
  for (const [unit, size] of /** @type {[string, number][]} */ ([['G', 1e9], ['M', 1e6], ['k', 1e3]])) {
    if (Math.abs(n) >= (size === 1e3 ? 1e4 : size)) return `${(n / size).toFixed(Math.abs(n) >= size * 100 ? 0 : 1)}${unit}`;
  }
  return Math.abs(n) < 10 && n % 1 !== 0 ? n.toFixed(1) : count(n);
}

/** Bytes in binary units. @param {any} n */
export function bytes(n) {
  if (typeof n !== 'number' || !Number.isFinite(n)) return UNKNOWN;
  let unit = 0;
  while (Math.abs(n) >= 1024 && unit < 5) {
    n /= 1024;
    unit += 1;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][unit]}`;
}

/** A span of time in its two largest units; null is never. @param {any} seconds */
export function span(seconds) {
  if (seconds === null) return '∞';
  if (typeof seconds !== 'number' || !Number.isFinite(seconds)) return UNKNOWN;
  if (seconds < 1) return seconds <= 0 ? '0 s' : '< 1 s';
  const units = /** @type {[string, number][]} */ ([['d', 86400], ['h', 3600], ['m', 60], ['s', 1]]);
  if (seconds >= 30 * 86_400) return `${count(seconds / 86_400)} d`;
  let rest = Math.round(seconds);
  const first = units.findIndex(([, size]) => rest >= size);
  const parts = [];
  for (const [unit, size] of units.slice(first, first + 2)) {
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n > 0) parts.push(`${n} ${unit}`);
  }
  return parts.join(' ');
}

/** A moment, in the browser's zone. @param {any} millis */
export function moment(millis) {
  if (typeof millis !== 'number') return UNKNOWN;
  const at = new Date(millis);
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** @param {number} n @param {string} one @param {string} [many] */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** What a limit is called. @param {string | null | undefined} limit */
export function limitName(limit) {
  return limit ? limit.replaceAll('_', '-') : 'nothing';
}

const OUTCOMES = {
  block: 'publishers are blocked',
  refuse: 'publishers are refused',
  drop: 'the oldest messages are dropped',
  dead_letter: 'the oldest messages are dead-lettered',
};

const WORDS = { block: 'blocks', refuse: 'refuses', drop: 'drops', dead_letter: 'dead-letters' };

/** The same in a word. @param {string | null | undefined} outcome */
export function outcomeWord(outcome) {
  return WORDS[/** @type {keyof typeof WORDS} */ (outcome ?? '')] ?? '–';
}

/** What happens at a limit. @param {string | null | undefined} outcome */
export function outcome(outcome) {
  return OUTCOMES[/** @type {keyof typeof OUTCOMES} */ (outcome ?? '')] ?? 'nothing happens';
}

/** What is offered first: the virtual host that everybody has. @param {string[]} vhosts */
export function firstOf(vhosts) {
  return vhosts.includes('/') ? '/' : vhosts[0];
}

/**
 * What may hide in a name (marks of direction, controls, nothing at all) is made visible.
 * @param {any} text
 */
export function name(text) {
  if (text === undefined || text === null) return UNKNOWN;
  if (text === '') return '(no name)';
  // eslint-disable-next-line no-control-regex
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`);
}

/** Any value of an answer, in one line. @param {any} value */
export function value(value) {
  if (value === undefined || value === null) return '–';
  return typeof value === 'object' ? JSON.stringify(value) : name(value);
}

/**
 * Samples of a counter or gauge, oldest first. The interface gives them newest first.
 * @param {any} details
 * @returns {[number[], number[]]} seconds and values
 */
export function gauge(details) {
  const samples = [...(details?.samples ?? [])].reverse();
  return [samples.map((s) => s.timestamp / 1000), samples.map((s) => s.sample)];
}

/** A counter's samples as rates. @param {any} details @returns {[number[], number[]]} */
export function ratesOf(details) {
  const [at, values] = gauge(details);
  const rates = values.slice(1).map((v, i) => Math.max(0, v - values[i]) / Math.max(0.001, at[i + 1] - at[i]));
  return [at.slice(1), rates];
}

/** One word of a shell. @param {any} word */
export function quoted(word) {
  const text = String(word);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * A request as curl would make it. @param {string} base @param {string} user
 * @param {string} method @param {string} path @param {any} [body]
 */
export function curl(base, user, method, path, body) {
  const parts = ['curl', '-u', quoted(user)];
  if (method !== 'GET') parts.push('-X', method);
  if (body !== undefined) parts.push('-d', quoted(JSON.stringify(body)));
  parts.push(quoted(base.replace(/\/$/, '') + path));
  return parts.join(' ');
}

/** Rows as CSV (RFC 4180). @param {string[]} head @param {any[][]} rows */
export function csv(head, rows) {
  const cell = (/** @type {any} */ v) => {
    let text = v === null || v === undefined ? '' : typeof v === 'object' ? JSON.stringify(v) : String(v);
    // A spreadsheet must not take a name for a formula.
    if (typeof v === 'string' && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [head, ...rows].map((row) => row.map(cell).join(',')).join('\r\n');
}
