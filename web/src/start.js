// @ts-check
import { render } from 'preact';
import { html } from './html.js';
import { Shell } from './shell.js';
import { whoami } from './api.js';

const root = /** @type {HTMLElement} */ (document.getElementById('page'));
render(html`<${Shell} />`, root);
whoami().catch(() => setTimeout(whoami, 2000));
