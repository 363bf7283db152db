// @ts-check
/** Dark, light, or as the system has it. */
import { signal } from '@preact/signals';

const KEY = 'staunch-theme';
const system = matchMedia('(prefers-color-scheme: dark)');

/** What was chosen. */
export const choice = signal(localStorage.getItem(KEY) ?? 'system');
/** What is shown. */
export const theme = signal('light');

function apply() {
  theme.value = choice.value === 'system' ? (system.matches ? 'dark' : 'light') : choice.value;
  document.documentElement.dataset.theme = theme.value;
}

/** The next of the three. */
export function turn() {
  const all = ['system', 'light', 'dark'];
  choice.value = all[(all.indexOf(choice.value) + 1) % all.length];
  localStorage.setItem(KEY, choice.value);
  apply();
}

system.addEventListener('change', apply);
apply();
