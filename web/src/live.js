// @ts-check
/**
 * What is shown, kept up to date: one stream a tab carries the answers of all paths that the page
 * shows, whenever they change. Where a proxy breaks streams, the paths are asked again and again.
 */
import { signal } from '@preact/signals';
import { useEffect } from './html.js';
import { asked, ended, request, session } from './api.js';

/**
 * @typedef {{ status: number, body: any, unknown: string[], at: number }} Known
 * @typedef {import('@preact/signals').Signal<Known | null>} Live
 */

const STREAM = '/api/staunch/v1/stream';
/** Paths of one stream; more are asked for one by one. */
const STREAM_PATHS_MAX = 8;
/** Answers kept of pages that have been left. */
const KEPT_MAX = 64;
/** Between two rounds of asking, milliseconds. */
const POLL_EVERY = 2000;
/** A stream that says nothing for so long is broken, milliseconds. */
const SILENCE_MAX = 15_000;
/** When to try a stream again after one broke, milliseconds. */
const RETRY_AFTER = 15_000;
/** What a stream may have sent without the end of an event. */
const EVENT_LENGTH_MAX = 32 << 20;

/** When something was last heard, by this browser's clock. */
export const heard = signal(0);
/** How it comes: `stream`, `polling`, `lost`. */
export const way = signal('polling');
/** Nothing is asked for. */
export const paused = signal(false);
/** The clock, once a second. */
export const now = signal(Date.now());
setInterval(() => {
  now.value = Date.now();
}, 1000);

/** @type {Map<string, { live: Live, users: number }>} */
const paths = new Map();
/** @type {AbortController | null} */
let stream = null;
let streamed = '';
let streamAfter = 0;
let isPlanned = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let poll;

/** What is known of a path, while a component shows it. @param {string | null | undefined} path @returns {Known | null} */
export function useLive(path) {
  useEffect(() => {
    if (!path) return undefined;
    const entry = entryOf(path);
    entry.users += 1;
    plan();
    return () => {
      entry.users -= 1;
      plan();
    };
  }, [path]);
  return path ? entryOf(path).live.value : null;
}

/** Its body, if there is a good one. @param {string | null | undefined} path @returns {any} */
export function useBody(path) {
  const known = useLive(path);
  return known && known.status === 200 ? known.body : null;
}

/** Asks at once for what may have changed by what was just done. */
export function refresh() {
  return Promise.all(shown().map(get));
}

/** Forgets everything: somebody else may log in. */
export function forget() {
  stream?.abort();
  stream = null;
  streamed = '';
  streamAfter = 0;
  paths.clear();
}

/** @param {string} path */
function entryOf(path) {
  let entry = paths.get(path);
  if (!entry) {
    entry = { live: signal(null), users: 0 };
    paths.set(path, entry);
    for (const [old, { users }] of paths) {
      if (paths.size <= KEPT_MAX) break;
      if (users === 0 && old !== path) paths.delete(old);
    }
  }
  return entry;
}

function shown() {
  return [...paths].filter(([, { users }]) => users > 0).map(([path]) => path);
}

/** After all that a page shows has been said, once. */
function plan() {
  if (isPlanned) return;
  isPlanned = true;
  setTimeout(() => {
    isPlanned = false;
    open();
  }, 0);
}

export function open() {
  clearTimeout(poll);
  if (!session.value || paused.value || document.hidden) {
    stream?.abort();
    stream = null;
    streamed = '';
    return;
  }
  const wanted = shown();
  const fresh = wanted.filter((path) => !paths.get(path)?.live.value);
  if (Date.now() >= streamAfter && wanted.length > 0 && wanted.length <= STREAM_PATHS_MAX) {
    const query = wanted.map((path) => `get=${encodeURIComponent(path)}`).join('&');
    if (query === streamed && stream) return;
    stream?.abort();
    stream = new AbortController();
    streamed = query;
    follow(wanted, query, stream);
    fresh.forEach(get);
    return;
  }
  stream?.abort();
  stream = null;
  streamed = '';
  refresh().finally(() => {
    if (!stream) poll = setTimeout(open, POLL_EVERY);
  });
}

/** @param {string} path */
async function get(path) {
  try {
    tell(path, await asked('GET', path));
    if (way.value === 'lost') way.value = 'polling';
  } catch {
    if (way.value !== 'stream') way.value = 'lost';
  }
}

/** @param {string} path @param {{ status: number, body: any, unknown: string[] }} answer */
function tell(path, { status, body, unknown }) {
  heard.value = Date.now();
  const entry = paths.get(path);
  if (entry) entry.live.value = { status, body, unknown, at: Date.now() };
}

/** @param {string[]} wanted @param {string} query @param {AbortController} own */
async function follow(wanted, query, own) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let silence;
  const isHeard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => own.abort(), SILENCE_MAX);
  };
  try {
    isHeard();
    const response = await request('GET', `${STREAM}?${query}`, undefined, own.signal);
    if (response.status === 401) return ended();
    const kind = response.headers.get('content-type') ?? '';
    if (!response.ok || !response.body || !kind.startsWith('text/event-stream')) throw new Error('no stream');
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      isHeard();
      heard.value = Date.now();
      way.value = 'stream';
      rest += value;
      if (rest.length > EVENT_LENGTH_MAX) throw new Error('an event without an end');
      const events = rest.split('\n\n');
      rest = events.pop() ?? '';
      events.forEach((text) => take(wanted, text));
    }
  } catch {
    // Another stream has taken its place, or none can be had.
  } finally {
    clearTimeout(silence);
    if (stream === own) {
      stream = null;
      streamed = '';
      streamAfter = Date.now() + RETRY_AFTER;
      if (way.value === 'stream') way.value = 'polling';
      open();
    }
  }
  return undefined;
}

/** An event of the stream. @param {string} text */
export function eventOf(text) {
  let event = 'message';
  let data = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('event:')) event = line.slice(6).trim();
    if (line.startsWith('data:')) data += line.slice(5).trim();
  }
  return { event, data };
}

/** @param {string[]} wanted @param {string} text */
function take(wanted, text) {
  const { event, data } = eventOf(text);
  const path = wanted[Number(event)];
  if (!path || data === '') return;
  const answer = JSON.parse(data);
  tell(path, { status: answer.status, body: answer.body, unknown: answer.unknown_nodes ?? [] });
}

document.addEventListener('visibilitychange', open);
