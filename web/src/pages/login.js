// @ts-check
import { html, useState } from '../html.js';
import { farewell, logIn } from '../api.js';

export function Login() {
  const [wrong, setWrong] = useState('');
  const [isBusy, setBusy] = useState(false);
  const submit = async (/** @type {any} */ event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    setBusy(true);
    setWrong('');
    try {
      await logIn(String(form.get('user')), String(form.get('password')));
    } catch (error) {
      setWrong(String(/** @type {Error} */ (error).message));
      setBusy(false);
    }
  };
  return html`
    <main class="login"><form onSubmit=${submit}>
      <h1><svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M8 9h16M8 16h16M8 23h10" /></svg> Staunch</h1>
      <p class="dim">${farewell.value || 'A broker that keeps every message it has confirmed.'}</p>
      <label class="field"><span>User</span><input name="user" autocomplete="username" autofocus required /></label>
      <label class="field"><span>Password</span><input name="password" type="password" autocomplete="current-password" required /></label>
      ${wrong && html`<p class="wrong" role="alert">${wrong}</p>`}
      <button class="primary" disabled=${isBusy}>${isBusy ? 'Logging in…' : 'Log in'}</button>
    </form></main>`;
}
