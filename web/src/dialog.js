// @ts-check
/** Dialogs that ask before something is done, and short words after it. */
import { html, signal, useEffect, useRef, useState } from './html.js';
import { refresh } from './live.js';

/**
 * @typedef {{ name: string, label: string, kind?: 'text' | 'password' | 'number' | 'area' | 'choice' | 'flag', value?: any,
 *   choices?: string[], hint?: string, required?: boolean }} Field
 * @typedef {{ title: string, text?: any, fields?: Field[], verb: string, danger?: boolean, typed?: string,
 *   run: (values: Record<string, any>) => Promise<any>, said?: string }} Question
 */

/** @type {import('@preact/signals').Signal<Question | null>} */
const question = signal(null);
/** @type {import('@preact/signals').Signal<{ text: string, isBad: boolean } | null>} */
const word = signal(null);
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** Opens a dialog. @param {Question} asked */
export function ask(asked) {
  question.value = asked;
}

/** Says a word, and for a while. @param {string} text @param {boolean} [isBad] */
export function say(text, isBad = false) {
  clearTimeout(timer);
  word.value = { text, isBad };
  timer = setTimeout(() => {
    word.value = null;
  }, isBad ? 12_000 : 4000);
}

/** Does something and says how it went. @param {() => Promise<any>} run @param {string} said */
export async function act(run, said) {
  try {
    const done = await run();
    say(typeof done === 'string' ? done : said);
  } catch (error) {
    say(String(/** @type {Error} */ (error).message), true);
  }
  refresh();
}

/** The words and the dialog, once in the page. */
export function Dialogs() {
  return html`
    <div class="words" role="status" aria-live="polite">${word.value && html`
      <p class=${word.value.isBad ? 'word bad' : 'word'}>${word.value.text}
        <button class="plain" aria-label="Dismiss" onClick=${() => { word.value = null; }}>✕</button></p>`}</div>
    ${question.value && html`<${Asking} key=${question.value.title} question=${question.value} />`}`;
}

/** @param {{ question: Question }} props */
function Asking({ question: asked }) {
  const dialog = useRef(/** @type {any} */ (null));
  const [values, set] = useState(() => Object.fromEntries((asked.fields ?? []).map((f) => [f.name, f.value ?? (f.kind === 'flag' ? false : '')])));
  const [typed, setTyped] = useState('');
  const [wrong, setWrong] = useState('');
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  const close = () => {
    question.value = null;
  };
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setWrong('');
    try {
      const done = await asked.run(values);
      if (done === undefined || done === null || typeof done === 'object') say(asked.said ?? 'Done.');
      else if (done !== false) say(String(done));
      if (question.value === asked) close();
      refresh();
    } catch (error) {
      setWrong(String(/** @type {Error} */ (error).message));
      setBusy(false);
    }
  };
  const isReady = !isBusy && (!asked.typed || typed === asked.typed);
  return html`
    <dialog ref=${dialog} onClose=${close} aria-labelledby="asked">
      <form method="dialog" onSubmit=${submit}>
        <h2 id="asked">${asked.title}</h2>
        ${asked.text && html`<div class="said">${asked.text}</div>`}
        ${(asked.fields ?? []).map((field) => html`
          <${Entry} key=${field.name} field=${field} value=${values[field.name]}
            onChange=${(/** @type {any} */ v) => set({ ...values, [field.name]: v })} />`)}
        ${asked.typed && html`<label class="field"><span>Type <b class="name">${asked.typed}</b> to go on</span>
          <input value=${typed} autocomplete="off" onInput=${(/** @type {any} */ e) => setTyped(e.target.value)} /></label>`}
        ${wrong && html`<p class="wrong" role="alert">${wrong}</p>`}
        <div class="buttons">
          <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
          <button class=${asked.danger ? 'danger' : 'primary'} disabled=${!isReady}>${isBusy ? 'Working…' : asked.verb}</button>
        </div>
      </form>
    </dialog>`;
}

/** @param {{ field: Field, value: any, onChange: (value: any) => void }} props */
export function Entry({ field, value, onChange }) {
  const change = (/** @type {any} */ e) => onChange(field.kind === 'flag' ? e.target.checked : e.target.value);
  if (field.kind === 'flag') {
    return html`<label class="flag"><input type="checkbox" checked=${value} onChange=${change} /> ${field.label}</label>`;
  }
  const input = field.kind === 'area'
    ? html`<textarea rows="6" value=${value} onInput=${change} required=${field.required}></textarea>`
    : field.kind === 'choice'
      ? html`<select value=${value} onChange=${change}>${(field.choices ?? []).map((c) => html`<option value=${c}>${c}</option>`)}</select>`
      : html`<input type=${field.kind ?? 'text'} value=${value} onInput=${change} required=${field.required} step="any"
          autocomplete=${field.kind === 'password' ? 'new-password' : 'off'} />`;
  return html`<label class="field"><span>${field.label}</span>${input}${field.hint && html`<small>${field.hint}</small>`}</label>`;
}
