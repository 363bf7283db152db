// @ts-check
/** Charts and small lines. What a chart shows can be read as a table too. */
import uPlot from 'uplot';
import { html, useEffect, useRef } from './html.js';
import { moment, short } from './format.js';
import { theme } from './theme.js';

/** What a chart shows at least, seconds. */
const SPAN_MIN = 60;
/** Where less than so many seconds are shown, moments have seconds. */
const SPAN_BRIEF = 400;
/** Points of a chart; older ones are left out. */
const POINTS_MAX = 3600;

/**
 * Lines over time.
 * @param {{ title: string, series: { label: string, data: [number[], number[]], color: string, dash?: number[] }[],
 *   unit?: (n: number) => string, height?: number }} props
 */
export function Chart({ title, series, unit = short, height = 170 }) {
  const box = useRef(/** @type {any} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  const data = joined(series.map((s) => s.data));
  const shape = `${theme.value}|${series.map((s) => s.label).join('|')}`;
  useEffect(() => {
    const style = getComputedStyle(document.documentElement);
    const color = (/** @type {string} */ n) => style.getPropertyValue(n).trim();
    const axis = { stroke: color('--dim'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui' };
    const options = {
      width: Math.max(200, box.current.clientWidth),
      height,
      cursor: { y: false, points: { size: 6 } },
      legend: { live: true },
      // While nobody points at a moment it is the last one.
      hooks: { setCursor: [(/** @type {any} */ u) => showLast(u)] },
      scales: {
        x: { range: (/** @type {any} */ _u, /** @type {number} */ min, /** @type {number} */ max) => [Math.min(min, max - SPAN_MIN), max] },
        y: { range: (/** @type {any} */ _u, /** @type {number} */ _min, /** @type {number} */ max) => [0, max > 0 ? max * 1.08 : 1] },
      },
      axes: [
        { ...axis, values: moments, space: 70, size: 26, gap: 6 },
        { ...axis, size: 52, values: (/** @type {any} */ _u, /** @type {number[]} */ vs) => vs.map(unit) },
      ],
      series: [
        { label: 'at', value: (/** @type {any} */ _u, /** @type {number | null} */ v) => (v === null || v === undefined ? '–' : moment(v * 1000).slice(11)) },
        ...series.map((s) => ({
          label: s.label,
          stroke: color(s.color),
          width: 1.75,
          dash: s.dash,
          points: { show: false },
          value: (/** @type {any} */ _u, /** @type {number | null} */ v) => (v === null || v === undefined ? '–' : unit(v)),
        })),
      ],
    };
    plot.current = new uPlot(/** @type {any} */ (options), /** @type {any} */ (data), box.current);
    const fit = new ResizeObserver(() => plot.current?.setSize({ width: Math.max(200, box.current.clientWidth), height }));
    fit.observe(box.current);
    return () => {
      fit.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => {
    plot.current?.setData(data);
    showLast(plot.current);
  });
  const last = (/** @type {number} */ i) => data[i + 1].findLast((v) => v !== null);
  const told = series.map((s, i) => `${s.label} ${unit(last(i) ?? 0)}`).join(', ');
  return html`
    <figure class="chart">
      <figcaption>${title}</figcaption>
      <div ref=${box} hidden=${data[0].length === 0} role="img" aria-label=${`${title}: ${told}`} data-points=${data[0].length}
        data-last=${series.map((_s, i) => last(i) ?? 0).join(' ')}></div>
      ${data[0].length === 0 && html`<p class="dim">No samples yet: they come every few seconds.</p>`}
      <details><summary>As a table</summary><div class="scroll"><table>
        <thead><tr><th scope="col">at</th>${series.map((s) => html`<th scope="col" class="number">${s.label}</th>`)}</tr></thead>
        <tbody>${data[0].map((at, row) => html`<tr><td>${moment(Number(at) * 1000)}</td>
          ${series.map((_s, i) => html`<td class="number">${unit(Number(data[i + 1][row]))}</td>`)}</tr>`).reverse().slice(0, 30)}</tbody>
      </table></div></details>
    </figure>`;
}

/** Moments on the axis of time. @param {any} plot @param {number[]} splits */
function moments({ scales: { x } }, splits) {
  return splits.map((at) => moment(at * 1000).slice(11, x.max - x.min < SPAN_BRIEF ? 19 : 16));
}

/** @param {any} plot */
function showLast(plot) {
  if (plot && plot.data[0].length > 0 && (plot.cursor.idx === null || plot.cursor.idx === undefined)) plot.setLegend({ idx: plot.data[0].length - 1 });
}

/** Several lines on one axis of time. @param {[number[], number[]][]} lines @returns {(number | null)[][]} */
export function joined(lines) {
  const all = new Set(lines.flatMap(([at]) => at));
  const at = [...all].sort((a, b) => a - b).slice(-POINTS_MAX);
  const values = lines.map(([own, values]) => {
    const known = new Map(own.map((t, i) => [t, values[i]]));
    return at.map((t) => known.get(t) ?? null);
  });
  return [at, ...values];
}

/** A line beside a number. @param {{ values: number[], label: string }} props */
export function Spark({ values, label }) {
  const top = Math.max(1e-9, ...values);
  const step = 100 / Math.max(1, values.length - 1);
  const points = values.map((v, i) => `${(i * step).toFixed(1)},${(23 - (v / top) * 21).toFixed(1)}`).join(' ');
  return html`<svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label=${label}>
    ${values.length > 1 && html`<polygon points=${`0,24 ${points} 100,24`} /><polyline points=${points} />`}</svg>`;
}

/** How full something is. @param {{ part: number, label: string, isBad?: boolean }} props */
export function Bar({ part, label, isBad }) {
  const width = Math.max(0, Math.min(1, Number.isFinite(part) ? part : 0)) * 100;
  return html`<svg class=${isBad ? 'bar bad' : 'bar'} viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label=${label}>
    <rect class="all" width="100" height="6" rx="2" /><rect class="part" width=${width} height="6" rx="2" /></svg>`;
}
