// SPDX-License-Identifier: Apache-2.0
// Samples over time, and the charts of them.

import {
  TROUBLED,
  clockOf,
  count,
  h,
  known,
  notEntangled,
  ratio,
  s,
  say,
  twinsIn,
  value,
} from "./elements.js";

// Trouble lies on the axis of the stacked chart, where its thickness is easiest to read.
const STACK = [...TROUBLED, "stopped", "done", "entangled"];
export const MAX_SAMPLES = 720; // of a chart: an hour at one every 5 s
const STEP = 5500; // samples nearer than this (ms) to their forerunner replace each other

// Keeps the lowest and the highest of each stretch, so that a short dip outlives the thinning.
export function thin(points) {
  const size = Math.ceil(points.length / (MAX_SAMPLES / 2)),
    out = [];
  if (points.length <= MAX_SAMPLES) return points;
  for (let i = 0; i < points.length; i += size) {
    const part = points
      .slice(i, i + size)
      .filter((p) => known(p.v))
      .sort((a, b) => a.v - b.v);
    if (part.length) out.push(...[part[0], part.at(-1)].sort((a, b) => a.t - b.t));
  }
  return out;
}

export class Series {
  points = []; // {t: ms, v: number or null, phases?}
  load(points) {
    if (!points.length) return;
    const old = this.points.filter((p) => p.t < points[0].t);
    this.points = [...old, ...points, ...this.points.filter((p) => p.t > points.at(-1).t)].slice(
      -MAX_SAMPLES,
    );
  }
  // The newest point moves with the stream until it is a step away from the one before it.
  push(point) {
    const a = this.points;
    if (!(point.t > (a.at(-1)?.t ?? 0))) return;
    if (a.length > 1 && point.t - a.at(-2).t < STEP) a.pop();
    a.push(point);
    if (a.length > MAX_SAMPLES) a.shift();
  }
}

function steps(lo, hi, wanted) {
  const raw = (hi - lo) / wanted,
    size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * size >= raw) * size;
  const first = Math.ceil(lo / step - 1e-9),
    n = Math.floor(hi / step + 1e-9) - first;
  return Array.from({ length: n + 1 }, (_, i) => +((first + i) * step).toPrecision(12));
}

const TIME_STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].map((x) => x * 1000);
function timeSteps(t0, t1, wanted) {
  const step = TIME_STEPS.find((x) => (t1 - t0) / x <= wanted) ?? (t1 - t0) / wanted;
  const out = [];
  for (let t = Math.ceil(t0 / step) * step; t <= t1; t += step)
    out.push([t, clockOf(t).slice(0, step < 60e3 ? 8 : 5)]);
  return out;
}

const shortNumber = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 5 });

// A chart in CSS pixels, drawn anew when its width changes, so that text keeps its size.
// `draw(chart)` sets the scales by `frame` and adds the marks.
export class Chart {
  constructor(title, draw) {
    this.title = title;
    this.draw = draw;
    this.svg = s("svg", { class: "chart", role: "img", "aria-label": title, height: 190 });
    this.caption = h("figcaption");
    this.el = h("figure", {}, this.svg, this.caption);
    new ResizeObserver(() => this.paint()).observe(this.el);
  }
  paint() {
    this.width = this.el.clientWidth;
    if (!this.width) return;
    this.svg.replaceChildren();
    const words = this.draw(this);
    say(this.caption, words);
    this.svg.setAttribute("aria-label", `${this.title}. ${words}`);
  }
  frame([t0, t1], [lo, hi]) {
    const left = 52,
      right = this.width - 10,
      top = 10,
      bottom = 190 - 24;
    this.x = (t) => +(left + ((t - t0) / (t1 - t0)) * (right - left)).toFixed(1);
    this.y = (v) => +(bottom - ((v - lo) / (hi - lo)) * (bottom - top)).toFixed(1);
    for (const v of steps(lo, hi, 5)) {
      this.line("grid", left, right, this.y(v), this.y(v));
      this.svg.append(
        s("text", { x: left - 6, y: this.y(v) + 4, "text-anchor": "end", text: shortNumber.format(v) }),
      );
    }
    for (const [t, label] of timeSteps(t0, t1, (right - left) / 80)) {
      const x = this.x(t),
        half = label.length * 3.7; // keeps the outermost labels inside
      this.line("axis", x, x, bottom, bottom + 4);
      this.svg.append(
        s("text", {
          x: Math.min(x, this.width - half),
          y: bottom + 18,
          "text-anchor": "middle",
          text: label,
        }),
      );
    }
    this.line("axis", left, right, bottom, bottom);
    this.line("axis", left, left, top, bottom);
  }
  line(name, x1, x2, y1, y2) {
    this.svg.append(s("line", { class: name, x1, x2, y1, y2 }));
  }
  path(name, d, more = {}) {
    this.svg.append(s("path", { class: name, d, ...more }));
  }
}

// Runs of points without a hole: a line or an area must not bridge what nobody measured.
function runs(points, hole) {
  const out = [];
  let last = null;
  for (const p of points) {
    if (!known(p.v)) last = null;
    else if (last && p.t - last.t <= hole) out.at(-1).push((last = p));
    else out.push([(last = p)]);
  }
  return out;
}

function drawLine(chart, points, span, bounds, hole) {
  chart.frame(span, bounds);
  const at = (p) => `${chart.x(p.t)} ${chart.y(p.v)}`;
  for (const run of runs(points, hole)) chart.path("line", `M${run.map(at).join("L")}h0`);
  const some = points.filter((p) => known(p.v));
  if (some.length < 100) chart.path("dots", some.map((p) => `M${at(p)}h0`).join(""));
  return { low: some.reduce((a, b) => (b.v < a.v ? b : a)), latest: some.at(-1) };
}

// From the first point that there is to `end`, and a minute at least.
export const spanOf = (points, end = points.at(-1)?.t) =>
  points.length && [Math.min(points[0].t, end - 60e3), end];

// ODTE lives near 1: the axis starts as high as the data lets it, and the caption says where.
export function drawOdte(chart, points, span, hole) {
  const low = points.reduce((a, p) => (known(p.v) ? Math.min(a, p.v) : a), Infinity);
  if (low === Infinity) {
    if (span) chart.frame(span, [0, 1]); // empty, but seen to be a chart
    return "No ODTE is known yet.";
  }
  const floor = [0.95, 0.9, 0.8, 0.5, 0].find((x) => x <= low) ?? 0;
  const seen = drawLine(chart, points, span, [floor, 1], hole);
  const lowest = `${ratio(seen.low.v)} at ${clockOf(seen.low.t)} UTC`;
  return `Latest ${ratio(seen.latest.v)}, lowest ${lowest}. The axis starts at ${floor}.`;
}

export function drawValue(chart, points, span) {
  const some = points.filter((p) => known(p.v)).map((p) => p.v);
  if (!some.length) return "No value is known yet.";
  const lo = Math.min(...some),
    hi = Math.max(...some);
  const room = (hi - lo) * 0.05 || Math.abs(hi) * 0.05 || 1;
  const seen = drawLine(chart, points, span, [lo - room, hi + room], Infinity);
  const since = clockOf(points[0].t);
  return `Latest ${value(seen.latest.v)}, lowest ${value(lo)}, highest ${value(hi)}; from ${since} UTC on.`;
}

export function drawBands(chart, points, hole) {
  if (!points.length) return "Nothing is known yet.";
  const most = Math.max(1, ...points.map((p) => twinsIn(p.phases)));
  chart.frame(spanOf(points), [0, most]);
  for (const run of runs(
    points.map((p) => ({ ...p, v: 0 })),
    hole,
  )) {
    let floor = run.map(() => 0);
    for (const phase of STACK) {
      const top = run.map((p, i) => floor[i] + (p.phases[phase] ?? 0));
      const at = (levels) => run.map((p, i) => `${chart.x(p.t)} ${chart.y(levels[i])}`);
      const d = `M${at(top).join("L")}L${at(floor).reverse().join("L")}Z`;
      if (top.some((v, i) => v > floor[i])) chart.path("area", d, { fill: `url(#fill-${phase})` });
      floor = top;
    }
  }
  const worst = points.reduce((a, b) => (notEntangled(b.phases) > notEntangled(a.phases) ? b : a));
  if (!notEntangled(worst.phases)) return "No twin was disentangled, bound or unbound.";
  return `Most not entangled: ${count(notEntangled(worst.phases))} at ${clockOf(worst.t)} UTC.`;
}
