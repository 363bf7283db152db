// @ts-check
/** The HTTP interface, asked in the name of who is logged in. All paths are public: see `/api/staunch/v1/openapi.json`. */
import { signal } from '@preact/signals';

/**
 * @typedef {{ user: string, tags: string[], csrf_token: string | null }} Session
 * @typedef {{ status: number, body: any, unknown: string[] }} Answer
 */

/** Who is logged in; undefined while that is not known. @type {import('@preact/signals').Signal<Session | null | undefined>} */
export const session = signal(undefined);
/** Why the last session ended. */
export const farewell = signal('');

const SESSION = '/api/staunch/v1/session';
/** Where the page is served: a proxy may have put something before it. */
export const base = new URL('.', document.baseURI);
/** A request that takes longer has failed, milliseconds. */
const TIMEOUT = 35_000;

/** A refusal, in the words of the interface. */
export class Refused extends Error {
  /** @param {number} status @param {string} reason */
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/** @param {string} path */
export function url(path) {
  return new URL(path.replace(/^\//, ''), base).href;
}

/** @param {string} method @param {string} path @param {any} [body] @param {AbortSignal} [aborted] */
export function request(method, path, body, aborted) {
  /** @type {Record<string, string>} */
  const headers = { 'x-requested-with': 'staunch-page' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  const token = session.value?.csrf_token;
  if (method !== 'GET' && token) headers['x-staunch-csrf'] = token;
  return fetch(url(path), {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: aborted,
    credentials: 'same-origin',
    cache: 'no-store',
  });
}

/** Asks, and gives whatever comes back. @param {string} method @param {string} path @param {any} [body] @returns {Promise<Answer>} */
export async function asked(method, path, body) {
  const response = await request(method, path, body, AbortSignal.timeout(TIMEOUT));
  const text = await response.text();
  let read = null;
  try {
    read = text === '' ? null : JSON.parse(text);
  } catch {
    read = { reason: text };
  }
  if (response.status === 401 && session.value && !read?.reason) ended();
  return { status: response.status, body: read, unknown: unknownOf(response) };
}

/** Asks, and throws what is refused. @param {string} method @param {string} path @param {any} [body] @returns {Promise<any>} */
export async function call(method, path, body) {
  const answer = await asked(method, path, body);
  if (answer.status >= 400) throw new Refused(answer.status, reason(answer));
  return answer.body;
}

/** @param {Answer} answer */
export function reason({ status, body }) {
  return String(body?.reason ?? body?.error ?? `status ${status}`);
}

/** @param {Response} response */
function unknownOf(response) {
  const header = response.headers.get('staunch-unknown-nodes') ?? '';
  return header.split(',').map((n) => n.trim()).filter((n) => n !== '');
}

/** Finds out who is logged in. */
export async function whoami() {
  const { status, body } = await asked('GET', SESSION);
  session.value = status === 200 && body.csrf_token ? body : null;
}

/** @param {string} user @param {string} password */
export async function logIn(user, password) {
  const body = await call('POST', SESSION, { user, password, path: base.pathname });
  farewell.value = '';
  session.value = body;
}

export async function logOut() {
  await asked('DELETE', `${SESSION}?path=${encodeURIComponent(base.pathname)}`);
  session.value = null;
  farewell.value = 'You have logged out.';
}

/** The node says that the session is over. */
export function ended() {
  if (session.value === null) return;
  session.value = null;
  farewell.value = 'The session has ended. Please log in again.';
}

/** Whether who is logged in has one of these tags. @param {...string} tags */
export function may(...tags) {
  return tags.some((tag) => session.value?.tags.includes(tag));
}

/** A part of a path. @param {string} part */
export const part = (part) => encodeURIComponent(part);
