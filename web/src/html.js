// @ts-check
/** What every module draws with. Text in a template is always text, never markup. */
import { h } from 'preact';
import htm from 'htm';

export const html = htm.bind(h);
export { useEffect, useMemo, useRef, useState } from 'preact/hooks';
export { computed, effect, signal } from '@preact/signals';
