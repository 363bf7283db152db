// @ts-check
import { html } from '../html.js';
import { call, part, session } from '../api.js';
import { ask } from '../dialog.js';
import { firstOf, name } from '../format.js';
import { useBody, useLive } from '../live.js';
import { Chip, Head, Missing, Sorted } from '../parts.js';

const ALL = { configure: '.*', write: '.*', read: '.*' };

export function Users() {
  const known = useLive('/api/users');
  const permissions = useLive('/api/permissions');
  const topics = useLive('/api/topic-permissions');
  const vhosts = (useBody('/api/vhosts?columns=name') ?? []).map((/** @type {any} */ v) => v.name);
  if (known?.status !== 200) return html`<${Head} title="Users" /><${Missing} of=${known} />`;
  const names = known.body.map((/** @type {any} */ u) => u.name);
  const edit = (/** @type {any} */ u) => ask({
    title: u ? `Change ${name(u.name)}` : 'New user',
    verb: u ? 'Change' : 'Create',
    fields: [
      ...(u ? [] : [{ name: 'name', label: 'Name', required: true }]),
      { name: 'password', label: u ? 'New password' : 'Password', kind: 'password', required: !u, hint: u ? 'empty: as it is. Sessions by cookie end when it changes.' : undefined },
      { name: 'tags', label: 'Tags', value: u ? u.tags.join(', ') : '', hint: 'administrator, monitoring, policymaker, management; none: AMQP only' },
    ],
    run: (v) => call('PUT', `/api/users/${part(u?.name ?? v.name)}`, {
      ...(v.password !== '' ? { password: v.password } : { password_hash: u.password_hash, hashing_algorithm: u.hashing_algorithm }),
      tags: v.tags.split(',').map((/** @type {string} */ t) => t.trim()).filter((/** @type {string} */ t) => t !== ''),
    }),
    said: u ? 'Changed.' : 'Created.',
  });
  const drop = (/** @type {any} */ u) => ask({
    title: 'Delete the user?',
    danger: true,
    verb: 'Delete',
    text: html`<p>This deletes <b class="name">${name(u.name)}</b> with all its permissions and closes its connections.${u.name === session.value?.user ? html` <b>That is you: your session ends.</b>` : ''}</p>`,
    run: () => call('DELETE', `/api/users/${part(u.name)}`),
    said: 'Deleted.',
  });
  const permit = (/** @type {any} */ p) => ask({
    title: 'What a user may do in a virtual host',
    verb: 'Permit',
    fields: [
      ...(p ? [] : /** @type {import('../dialog.js').Field[]} */ ([{ name: 'user', label: 'User', kind: 'choice', choices: names, value: names[0] }, { name: 'vhost', label: 'Virtual host', kind: 'choice', choices: vhosts, value: firstOf(vhosts) }])),
      ...Object.entries(ALL).map(([k, v]) => ({ name: k, label: k, value: p?.[k] ?? v, hint: 'a regular expression of names; empty: nothing' })),
    ],
    run: (v) => call('PUT', `/api/permissions/${part(p?.vhost ?? v.vhost)}/${part(p?.user ?? v.user)}`, { configure: v.configure, write: v.write, read: v.read }),
    said: 'Permitted.',
  });
  const shut = (/** @type {any} */ p) => ask({
    title: 'Shut the user out?',
    danger: true,
    verb: 'Shut out',
    text: html`<p><b class="name">${name(p.user)}</b> may not enter <b class="name">${name(p.vhost)}</b> any more.</p>`,
    run: () => call('DELETE', `/api/permissions/${part(p.vhost)}/${part(p.user)}`),
    said: 'Shut out.',
  });
  const pattern = (/** @type {string} */ key) => ({ key, title: key, of: (/** @type {any} */ p) => (p[key] === '' ? 'nothing' : html`<code class="name">${name(p[key])}</code>`) });
  return html`
    <${Head} title="Users" path="/api/users" command="user ls" actions=${html`<button class="primary" onClick=${() => edit(null)}>New user</button>`} />
    <section class="card"><${Sorted} caption="Users" file="users" rows=${known.body.map(({ password_hash: _, ...u }) => ({ ...u, hash: _ }))} keyOf=${(/** @type {any} */ u) => u.name} columns=${[
      { key: 'name', title: 'name', of: (/** @type {any} */ u) => html`<span class="name">${name(u.name)}</span>` },
      { key: 'tags', title: 'tags', of: (/** @type {any} */ u) => u.tags.map((/** @type {string} */ t) => html`<${Chip}>${name(t)}<//> `) },
      { key: 'vhosts', title: 'may enter', sort: false, plain: () => '', of: (/** @type {any} */ u) => {
        const own = permissions?.status === 200 ? permissions.body.filter((/** @type {any} */ p) => p.user === u.name) : null;
        return own && (own.length === 0 ? html`<${Chip} level="warn">nothing<//>` : own.map((/** @type {any} */ p) => html`<${Chip}>${name(p.vhost)}<//> `));
      } },
      { key: 'hashing_algorithm', title: 'password kept by', of: (/** @type {any} */ u) => (u.hash ? String(u.hashing_algorithm).replace('rabbit_password_hashing_', '') : 'none: certificates only') },
      { key: 'do', title: '', sort: false, of: (/** @type {any} */ u) => html`<button class="quiet" onClick=${() => edit({ ...u, password_hash: u.hash })}>change</button><button class="quiet" onClick=${() => drop(u)}>delete</button>` },
    ]} /></section>
    <section class="card"><h2>Permissions <button onClick=${() => permit(null)}>Permit</button></h2>
      <${Sorted} caption="Permissions" file="permissions" rows=${permissions?.status === 200 ? permissions.body : null} keyOf=${(/** @type {any} */ p) => `${p.user} ${p.vhost}`} columns=${[
        { key: 'user', title: 'user', of: (/** @type {any} */ p) => html`<span class="name">${name(p.user)}</span>` },
        { key: 'vhost', title: 'vhost', of: (/** @type {any} */ p) => html`<span class="name">${name(p.vhost)}</span>` },
        pattern('configure'), pattern('write'), pattern('read'),
        { key: 'do', title: '', sort: false, of: (/** @type {any} */ p) => html`<button class="quiet" onClick=${() => permit(p)}>change</button><button class="quiet" onClick=${() => shut(p)}>shut out</button>` },
      ]} /></section>
    <section class="card"><h2>Topic permissions</h2>
      <${Sorted} caption="Topic permissions" file="topic-permissions" hasFilter=${false} rows=${topics?.status === 200 ? topics.body : null} keyOf=${(/** @type {any} */ p) => `${p.user} ${p.vhost} ${p.exchange}`} empty="None: who may write to a topic exchange may use every key." columns=${[
        { key: 'user', title: 'user', of: (/** @type {any} */ p) => name(p.user) }, { key: 'vhost', title: 'vhost', of: (/** @type {any} */ p) => name(p.vhost) },
        { key: 'exchange', title: 'exchange', of: (/** @type {any} */ p) => name(p.exchange) }, pattern('write'), pattern('read'),
      ]} /></section>`;
}
