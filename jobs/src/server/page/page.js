// SPDX-License-Identifier: Apache-2.0
// Twinloom's page: the jobs, one job, one twin. Hand-written, no dependencies.
// Text from the API reaches the document by textContent only: ids may hold anything.

const PHASES = ["unbound", "bound", "entangled", "disentangled", "done", "stopped"];
// Trouble lies on the axis of the stacked chart, where its thickness is easiest to read.
const STACK = ["disentangled", "bound", "unbound", "stopped", "done", "entangled"];
const NOT_ENTANGLED = "not-entangled";
const STATUS = { running: "▶ running", paused: "❚❚ paused", done: "✓ done", failed: "✕ failed" };
const CAUSES = {
  late_in_transport: "late in transport (messages take too long to reach the engine)",
  late_in_compute: "late in compute (the engine applies messages too late)",
  messages_missing: "messages missing (fewer arrive than are expected)",
  silent: "silent (nothing arrives)",
  source_lost: "source lost (the engine cannot read the source)",
  down: "down (not available)",
  settling: "settling (too early to judge)",
};
const MAX_SAMPLES = 720; // of a chart: an hour at one every 5 s
const MAX_ENTRIES = 200; // of any list
const PAGE = 50; // twins on a page
const ROWS = 500; // of history in one answer
const HOUR = 3600e3;
const STEP = 5500; // samples nearer than this (ms) to their forerunner replace each other
const REFRESH = 5000;

// ---- Numbers and words -------------------------------------------------------------------

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const known = (x) => x !== null && x !== undefined && !Number.isNaN(x);
const count = (x) => (known(x) ? whole.format(x) : NONE);
const rate = (x) => (known(x) ? tenths.format(x) : NONE);
const millis = (x) => (known(x) ? `${tenths.format(x)} ms` : NONE);
// Rounded down, so that 1.000 is said only of what is wholly true.
const ratio = (x) => (known(x) ? (Math.floor(x * 1000 + 1e-6) / 1000).toFixed(3) : NONE);
const clock = (at) => (at ? at.slice(11, 19) : NONE);
const clockOf = (ms) => clock(new Date(ms).toISOString());
const cause = (c) => CAUSES[c] ?? String(c).replaceAll("_", " ");
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const notEntangled = (phases) => PHASES.reduce((n, p) => n + (p === "entangled" ? 0 : phases[p] ?? 0), 0);

function value(v) {
  if (typeof v === "number") return String(+v.toPrecision(9));
  const text = typeof v === "string" ? v : JSON.stringify(v) ?? NONE;
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

// ---- Elements ----------------------------------------------------------------------------

function build(el, attrs, kids) {
  for (const [name, v] of Object.entries(attrs)) {
    if (name === "text") el.textContent = v;
    else if (name.startsWith("on")) el.addEventListener(name.slice(2), v);
    else if (v !== null && v !== false) el.setAttribute(name, v === true ? "" : v);
  }
  el.append(...kids);
  return el;
}
const h = (tag, attrs = {}, ...kids) => build(document.createElement(tag), attrs, kids);
const s = (tag, attrs = {}, ...kids) => build(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, kids);

// Writes only what differs: an untouched node is not read out again, and keeps its selection.
const say = (el, text) => { if (el.textContent !== text) el.textContent = text; };

// An element that can show another state of what it stands for.
const updating = (el, update) => Object.assign(el, { update });

// Makes the children of `parent` those of `items`, keeping a key's element (and so its focus).
// `make` gives an updating element.
const kept = new WeakMap();
function keyed(parent, items, key, make) {
  const old = kept.get(parent) ?? new Map();
  const now = new Map(items.map((item) => [key(item), item]));
  for (const [k, el] of old) if (!now.has(k)) { el.remove(); old.delete(k); }
  let i = 0;
  for (const [k, item] of now) {
    const el = old.get(k) ?? make(item);
    old.set(k, el);
    el.update(item);
    if (parent.children[i] !== el) parent.insertBefore(el, parent.children[i] ?? null);
    i += 1;
  }
  kept.set(parent, old);
}

const panel = (text, ...kids) => h("section", { class: "panel", "aria-label": text }, h("h2", { text, tabindex: "-1" }), ...kids);

// A row of numbers with their names; `fields` maps a name to how it is read from the item.
function numbers(fields) {
  const cells = Object.entries(fields).map(([name, read]) => ({ read, dt: h("dt", { text: name }), dd: h("dd") }));
  return updating(h("dl", { class: "numbers" }, ...cells.map(({ dt, dd }) => h("div", {}, dt, dd))),
    (item) => cells.forEach(({ read, dd }) => say(dd, read(item))));
}

// A table that scrolls by itself rather than widen the page; `heads` maps a heading to its class.
function table(heads, rows, caption = []) {
  const cells = Object.entries(heads).map(([text, c]) => h("th", { scope: "col", class: c, text }));
  return h("div", { class: "scroll" }, h("table", {}, ...caption, h("thead", {}, h("tr", {}, ...cells)), rows));
}

const swatch = (fill) => s("svg", { class: "swatch", "aria-hidden": "true" },
  s("rect", { width: "100%", height: "100%", fill: `url(#fill-${fill})` }));

function phaseBadge() {
  const word = h("span"), el = h("span", { class: "phase" });
  return updating(el, (phase) => {
    if (word.textContent === phase) return;
    word.textContent = phase;
    el.replaceChildren(...(PHASES.includes(phase) ? [swatch(phase)] : []), word);
  });
}

// Shows an error, or by null that it is over.
const complain = (el) => (error) => {
  if (error?.name === "AbortError") return;
  el.hidden = !error;
  say(el, error ? error.message : "");
};
const title = (id, badge) => h("div", { class: "title" }, h("h1", { class: "id", tabindex: "-1" }, h("bdi", { text: id })), badge);
const problemBox = () => h("p", { class: "problem", role: "alert", hidden: true });

// ---- The API, and where things are -------------------------------------------------------

const api = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;

async function get(url, signal) {
  const answer = await fetch(url, { signal, headers: { accept: "application/json" } });
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  const words = [problem.title, problem.detail].filter(Boolean).join(": ");
  throw Object.assign(new Error(words || `the server answered ${answer.status}`), { status: answer.status });
}

function hrefOf(job, filter = {}) {
  const query = new URLSearchParams(Object.entries(filter).filter(([, v]) => v)).toString();
  return `#/jobs/${encodeURIComponent(job)}${query && `?${query}`}`;
}
const hrefOfTwin = (job, twin) => `#/jobs/${encodeURIComponent(job)}/twins/${encodeURIComponent(twin)}`;

function whereTo() {
  const [path, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  try {
    return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
  } catch {
    return { parts: ["?"], query: new URLSearchParams() }; // a broken percent-encoding: no such page
  }
}

// ---- Being live --------------------------------------------------------------------------

const connectionEl = document.getElementById("connection");
function connection(state) {
  if (connectionEl.className === state) return; // keeps the time of a loss
  connectionEl.className = state;
  document.body.classList.toggle("stale", state === "lost");
  say(connectionEl, { none: "", live: "● Live", connecting: "○ Connecting…",
    lost: `✕ Connection lost at ${clockOf(Date.now())} UTC. Trying again; what you see is from before.` }[state]);
}

// A stream that comes back. EventSource retries by itself after a cut, but gives up for good
// after an HTTP error (say, from a proxy while the server restarts): then this opens it anew.
// A view has one stream at most: a browser gives HTTP/1.1 six connections for all its tabs.
class Live {
  constructor(url, signal, handlers, { opened = () => {}, patience = 0 } = {}) {
    Object.assign(this, { url, handlers, opened, patience, signal });
    signal.addEventListener("abort", () => this.close());
    document.addEventListener("visibilitychange", () => this.seen(), { signal });
    connection("connecting");
    this.open();
  }
  open() {
    this.close();
    this.source = new EventSource(this.url);
    this.watch();
    this.source.onopen = () => { connection("live"); this.watch(); this.opened(); };
    this.source.onerror = () => this.failed();
    for (const [name, handle] of Object.entries(this.handlers)) {
      this.source.addEventListener(name, (e) => { connection("live"); this.watch(); handle(JSON.parse(e.data)); });
    }
  }
  close() {
    clearTimeout(this.timer);
    this.source?.close();
  }
  failed() {
    connection("lost");
    this.watch(this.source.readyState === EventSource.CLOSED ? REFRESH : this.patience);
  }
  // A half-open connection gives no error: a stream that should speak but does not is lost too.
  watch(patience = this.patience) {
    clearTimeout(this.timer);
    if (patience && !document.hidden) this.timer = setTimeout(() => { connection("lost"); this.open(); }, patience);
  }
  seen() {
    if (document.hidden) clearTimeout(this.timer);
    else if (this.source.readyState === EventSource.CLOSED) this.open();
    else this.watch();
  }
}

// Repeats `work` while the tab is to be seen, and does it at once when it comes back.
function whileVisible(period, work, signal) {
  let timer;
  const set = () => {
    clearInterval(timer);
    if (!document.hidden) timer = setInterval(work, period);
  };
  document.addEventListener("visibilitychange", () => { set(); if (!document.hidden) work(); }, { signal });
  signal.addEventListener("abort", () => clearInterval(timer));
  set();
}

// Draws at most every half second however fast events come, and never for a hidden tab.
function painter(paint, signal) {
  let timer = null, wanted = false, last = -Infinity;
  const run = () => {
    timer = null;
    if (document.hidden || signal.aborted) return;
    wanted = false;
    last = performance.now();
    paint();
  };
  document.addEventListener("visibilitychange", () => wanted && run(), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  return () => {
    wanted = true;
    if (timer === null && !document.hidden) timer = setTimeout(run, Math.max(0, last + 500 - performance.now()));
  };
}

// ---- Samples and charts ------------------------------------------------------------------

// Keeps the lowest and the highest of each stretch, so that a short dip outlives the thinning.
function thin(points) {
  const size = Math.ceil(points.length / (MAX_SAMPLES / 2)), out = [];
  if (points.length <= MAX_SAMPLES) return points;
  for (let i = 0; i < points.length; i += size) {
    const part = points.slice(i, i + size).filter((p) => known(p.v)).sort((a, b) => a.v - b.v);
    if (part.length) out.push(...[part[0], part.at(-1)].sort((a, b) => a.t - b.t));
  }
  return out;
}

class Series {
  points = []; // {t: ms, v: number or null, phases?}
  alone = false; // nothing but the stream feeds it: there is no archive
  load(points) {
    const last = points.at(-1)?.t ?? -Infinity;
    this.points = [...points, ...this.points.filter((p) => p.t > last)].slice(-MAX_SAMPLES);
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
  const raw = (hi - lo) / wanted, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * size >= raw) * size;
  const first = Math.ceil(lo / step - 1e-9), n = Math.floor(hi / step + 1e-9) - first;
  return Array.from({ length: n + 1 }, (_, i) => +((first + i) * step).toPrecision(12));
}

const TIME_STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].map((x) => x * 1000);
function timeSteps(t0, t1, wanted) {
  const step = TIME_STEPS.find((x) => (t1 - t0) / x <= wanted) ?? (t1 - t0) / wanted;
  const out = [];
  for (let t = Math.ceil(t0 / step) * step; t <= t1; t += step) out.push([t, clockOf(t).slice(0, step < 60e3 ? 8 : 5)]);
  return out;
}

const shortNumber = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 5 });

// A chart in CSS pixels, drawn anew when its width changes, so that text keeps its size.
// `draw(chart)` sets the scales by `frame` and adds the marks.
class Chart {
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
    const left = 52, right = this.width - 10, top = 10, bottom = 190 - 24;
    this.x = (t) => +(left + ((t - t0) / (t1 - t0)) * (right - left)).toFixed(1);
    this.y = (v) => +(bottom - ((v - lo) / (hi - lo)) * (bottom - top)).toFixed(1);
    for (const v of steps(lo, hi, 5)) {
      this.line("grid", left, right, this.y(v), this.y(v));
      this.svg.append(s("text", { x: left - 6, y: this.y(v) + 4, "text-anchor": "end", text: shortNumber.format(v) }));
    }
    for (const [t, label] of timeSteps(t0, t1, (right - left) / 80)) {
      const x = this.x(t), half = label.length * 3.7; // keeps the outermost labels inside
      this.line("axis", x, x, bottom, bottom + 4);
      this.svg.append(s("text", { x: Math.min(x, this.width - half), y: bottom + 18, "text-anchor": "middle", text: label }));
    }
    this.line("axis", left, right, bottom, bottom);
    this.line("axis", left, left, top, bottom);
  }
  line(name, x1, x2, y1, y2) { this.svg.append(s("line", { class: name, x1, x2, y1, y2 })); }
  path(name, d, more = {}) { this.svg.append(s("path", { class: name, d, ...more })); }
}

// Runs of points without a hole: a line or an area must not bridge what nobody measured.
function runs(points, hole) {
  const out = [];
  let last = null;
  for (const p of points) {
    if (!known(p.v)) last = null;
    else if (last && p.t - last.t <= hole) out.at(-1).push(last = p);
    else out.push([last = p]);
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

const spanOf = (points) => points.length && [Math.min(points[0].t, points.at(-1).t - 60e3), points.at(-1).t];

// ODTE lives near 1: the axis starts as high as the data lets it, and the caption says where.
function drawOdte(chart, points, span, hole) {
  const low = points.reduce((a, p) => (known(p.v) ? Math.min(a, p.v) : a), Infinity);
  if (low === Infinity) {
    if (span) chart.frame(span, [0, 1]); // empty, but seen to be a chart
    return "No ODTE is known yet.";
  }
  const floor = [0.95, 0.9, 0.8, 0.5, 0].find((x) => x <= low) ?? 0;
  const seen = drawLine(chart, points, span, [floor, 1], hole);
  return `Latest ${ratio(seen.latest.v)}, lowest ${ratio(seen.low.v)} at ${clockOf(seen.low.t)} UTC. The axis starts at ${floor}.`;
}

function drawValue(chart, points, span) {
  const some = points.filter((p) => known(p.v)).map((p) => p.v);
  if (!some.length) return "No value is known yet.";
  const lo = Math.min(...some), hi = Math.max(...some);
  const room = (hi - lo) * 0.05 || Math.abs(hi) * 0.05 || 1;
  const seen = drawLine(chart, points, span, [lo - room, hi + room], Infinity);
  return `Latest ${value(seen.latest.v)}, lowest ${value(lo)}, highest ${value(hi)}; from ${clockOf(points[0].t)} UTC on.`;
}

function drawBands(chart, points, hole) {
  if (!points.length) return "Nothing is known yet.";
  const total = (p) => STACK.reduce((n, phase) => n + (p.phases[phase] ?? 0), 0);
  const most = Math.max(1, ...points.map(total));
  chart.frame(spanOf(points), [0, most]);
  for (const run of runs(points.map((p) => ({ ...p, v: 0 })), hole)) {
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
  return `Most not entangled: ${count(notEntangled(worst.phases))} at ${clockOf(worst.t)} UTC.`;
}

// ---- Parts that views share --------------------------------------------------------------

// The life cycle now: a stacked bar and, under it, each phase with its number.
function lifeCycle(job) {
  const bars = PHASES.map((p) => s("rect", { height: "100%", fill: `url(#fill-${p})` }));
  const words = PHASES.map(() => h("span"));
  const bar = s("svg", { class: "band", role: "img" }, ...bars);
  const entries = PHASES.map((p, i) => h("li", {}, h("a", { href: hrefOf(job, { show: p }) }, swatch(p), words[i])));
  return updating(h("div", {}, bar, h("ul", { class: "legend" }, ...entries)), ({ phases }) => {
    const numbers = PHASES.map((p) => phases[p] ?? 0);
    const all = numbers.reduce((a, b) => a + b, 0);
    // One twin among thousands must still be seen: no share that is there is below 1 %.
    const shares = numbers.map((n) => (n ? Math.max(0.01, n / all) : 0));
    const sum = shares.reduce((a, b) => a + b, 0) || 1;
    let x = 0;
    bars.forEach((rect, i) => {
      rect.setAttribute("x", `${((100 * x) / sum).toFixed(2)}%`);
      rect.setAttribute("width", `${((100 * shares[i]) / sum).toFixed(2)}%`);
      x += shares[i];
      say(words[i], `${PHASES[i]} ${count(numbers[i])}`);
      entries[i].className = numbers[i] ? "" : "none";
    });
    bar.setAttribute("aria-label", `Life cycle: ${PHASES.map((p, i) => `${p} ${numbers[i]}`).join(", ")}`);
  });
}

function causesOf() {
  const head = h("a"), list = h("ul", { class: "causes" });
  const make = () => updating(h("li"), function (c) { say(this, `${plural(c.twins, "twin")}: ${cause(c.cause)}`); });
  return updating(h("div", {}, head, list), (job) => {
    const n = notEntangled(job.phases);
    say(head, n ? `${plural(n, "twin")} not entangled` : job.twins ? "Every twin is entangled" : "No twins yet");
    if (n) head.setAttribute("href", hrefOf(job.job, { show: NOT_ENTANGLED }));
    else head.removeAttribute("href");
    keyed(list, job.causes.slice(0, MAX_ENTRIES), (c) => c.cause, make);
  });
}

// What both the list and the job's own view say of a job.
function jobParts(name) {
  const badge = h("span", { class: "badge" }), reason = h("p", { class: "problem", hidden: true });
  const counts = numbers({
    "twins": (j) => count(j.twins), "ODTE, mean": (j) => ratio(j.odte_mean), "ODTE, 5th percentile": (j) => ratio(j.odte_p05),
    "events per second": (j) => rate(j.events_per_second), "events": (j) => count(j.events), "dead letters": (j) => count(j.dead_letters),
  });
  const cycle = lifeCycle(name), causes = causesOf();
  const update = (job) => {
    say(badge, STATUS[job.status] ?? job.status);
    badge.className = `badge ${job.status === "failed" ? "failed" : ""}`;
    reason.hidden = !job.reason;
    say(reason, job.reason ? `Reason: ${job.reason}` : "");
    for (const part of [counts, cycle, causes]) part.update(job);
  };
  return { badge, reason, counts, cycle, causes, update };
}

// ---- View 1: the jobs --------------------------------------------------------------------

function jobCard({ job }) {
  const { badge, reason, counts, cycle, causes, update } = jobParts(job);
  const name = h("h2", {}, h("a", { class: "id", href: hrefOf(job) }, h("bdi", { text: job })));
  return updating(h("li", { class: "panel" }, h("div", { class: "title" }, name, badge), reason, counts, cycle, causes), update);
}

function jobsView(main, signal) {
  const list = h("ul", { class: "cards" }), more = h("p", { hidden: true }), problem = problemBox();
  const empty = h("div", { class: "empty", hidden: true }, h("p", { text: "There are no jobs yet. Submit one with:" }),
    h("p", {}, h("code", { text: "twinloom apply job.yaml" })));
  main.append(h("h1", { text: "Jobs", tabindex: "-1" }), problem, empty, list, more);
  let jobs = [];
  const paint = painter(() => {
    keyed(list, jobs.slice(0, MAX_ENTRIES), (j) => j.job, jobCard);
    empty.hidden = jobs.length > 0;
    more.hidden = jobs.length <= MAX_ENTRIES;
    say(more, `${plural(jobs.length - MAX_ENTRIES, "more job")} not shown here.`);
  }, signal);
  overview(signal, problem, (data) => { jobs = data.jobs; paint(); });
}

// The first overview by GET, for it is there at once; then the stream's, one a second.
function overview(signal, problem, show, opened) {
  let streaming = false;
  const take = (data) => { problem.hidden = true; show(data); };
  get("/v1/overview", signal).then((data) => streaming || take(data)).catch(complain(problem));
  new Live("/v1/overview/stream", signal, { overview: (data) => { streaming = true; take(data); } }, { patience: 6000, opened });
}

// ---- View 2: one job ---------------------------------------------------------------------

function jobView(main, signal, name, query) {
  const problem = problemBox(), gone = h("p", { class: "problem", hidden: true, text: `There is no job of the name ${name}.` });
  const { badge, reason, counts, cycle, causes, update } = jobParts(name);
  const about = h("p", { class: "sub" }), series = new Series(), hole = 30e3;
  const odte = new Chart("Fleet ODTE over time", (c) => drawOdte(c, series.points, spanOf(series.points), hole));
  const bands = new Chart("Life cycle over time", (c) => drawBands(c, series.points, hole));
  let latest = null;
  const twins = twinList(name, signal, query, () => latest?.phases);
  const body = h("div", {}, about, reason, counts,
    h("div", { class: "columns" }, panel("Fleet ODTE over time", odte.el), panel("Life cycle over time", bands.el)),
    panel("Life cycle now", cycle, causes), twins.el);
  main.append(title(name, badge), problem, gone, body);

  const paint = painter(() => {
    gone.hidden = !(body.hidden = latest === null);
    if (!latest) return;
    update(latest);
    say(about, `version ${latest.version}, generation ${latest.generation}${latest.tenant ? `, tenant ${latest.tenant}` : ""}`);
    odte.paint();
    bands.paint();
  }, signal);
  const sample = (x) => ({ t: Date.parse(x.at), v: x.odte_mean, phases: x.phases });
  // Also after each reconnection, to fill what the page missed.
  const loadTrend = () => get(`${api("jobs", name)}/trend`, signal)
    .then(({ samples }) => { series.load(samples.slice(-MAX_SAMPLES).map(sample)); paint(); })
    .catch((e) => e.status !== 404 && complain(problem)(e));
  overview(signal, problem, (data) => {
    latest = data.jobs.find((j) => j.job === name) ?? null;
    if (latest) series.push(sample({ ...latest, at: data.at }));
    paint();
  }, loadTrend);
  loadTrend();
  return { filter: twins.filter };
}

// One page of twins. The API filters by one phase: "not entangled" walks the phases one after
// the other, and a position is the phase's place with the cursor in it.
async function twinPage(job, { show, prefix }, from, phases, signal) {
  const walk = show === NOT_ENTANGLED ? STACK.filter((p) => p !== "entangled") : [show];
  const twins = [];
  for (let { i, cursor } = from; i < walk.length; i += 1, cursor = null) {
    if (twins.length >= PAGE) return { twins, next: { i, cursor } };
    if (walk.length > 1 && !cursor && phases?.[walk[i]] === 0) continue; // nothing to ask for
    const query = new URLSearchParams({ limit: PAGE - twins.length });
    for (const [k, v] of Object.entries({ lifecycle: walk[i], prefix, cursor })) if (v) query.set(k, v);
    const page = await get(`${api("jobs", job, "twins")}?${query}`, signal);
    twins.push(...page.twins);
    if (page.next) return { twins, next: { i, cursor: page.next } };
  }
  return { twins, next: null };
}

function twinRow(job, twin) {
  const link = h("a", { class: "id", href: hrefOfTwin(job, twin) }, h("bdi", { text: twin }));
  const badge = phaseBadge(), fields = ["odte", "timeliness", "reliability", "availability"];
  const cells = fields.map((f) => h("td", { class: f === "odte" ? "num" : "num wide" }));
  const type = h("td", { class: "wide" }), at = h("td", { class: "num wide" });
  return updating(h("tr", {}, h("th", { scope: "row" }, link), type, h("td", {}, badge), ...cells, at), (t) => {
    say(type, t.type ?? NONE);
    badge.update(t.lifecycle);
    fields.forEach((f, i) => say(cells[i], ratio(t[f])));
    say(at, clock(t.digital_at));
  });
}

function twinList(job, signal, query, phases) {
  const start = { i: 0, cursor: null };
  const choices = [["", "all"], [NOT_ENTANGLED, "not entangled"], ...PHASES.map((p) => [p, p])];
  const show = h("select", {}, ...choices.map(([v, text]) => h("option", { value: v, text })));
  const prefix = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const rows = h("tbody"), state = h("span", { role: "status" }), problem = problemBox();
  const back = h("button", { type: "button", text: "← Previous" }), on = h("button", { type: "button", text: "Next →" });
  let from = start, trail = [], next = null, page = 1, asked = null, wait = null;

  const load = async (quiet = false) => {
    if (quiet && asked) return; // a refresh does not cut short what the user asked for
    asked?.abort();
    const mine = asked = new AbortController();
    try {
      const got = await twinPage(job, { show: show.value, prefix: prefix.value }, from, phases(), AbortSignal.any([signal, mine.signal]));
      next = got.next;
      keyed(rows, got.twins.slice(0, MAX_ENTRIES), (t) => t.twin, (t) => twinRow(job, t.twin));
      say(state, `${got.twins.length ? plural(got.twins.length, "twin") : "No twins"} on page ${page}${next ? "" : ", the last"}`);
      back.disabled = !trail.length;
      on.disabled = !next;
      complain(problem)(null);
    } catch (e) {
      complain(problem)(e);
    } finally {
      if (asked === mine) asked = null;
    }
  };
  const go = (to, n) => { from = to; page = n; load(); };
  back.onclick = () => trail.length && go(trail.pop(), page - 1);
  on.onclick = () => {
    if (!next || asked) return; // a second press must not skip a page
    trail = [...trail, from].slice(-MAX_ENTRIES);
    go(next, page + 1);
  };
  const changed = () => {
    trail = [];
    history.replaceState(null, "", hrefOf(job, { show: show.value, prefix: prefix.value }));
    go(start, 1);
  };
  show.onchange = changed;
  prefix.oninput = () => { clearTimeout(wait); wait = setTimeout(changed, 300); };
  signal.addEventListener("abort", () => clearTimeout(wait));

  const heads = { "Twin": "", "Type": "wide", "Life cycle": "", "ODTE": "num", "Timeliness": "num wide", "Reliability": "num wide",
    "Availability": "num wide", "As of": "num wide" };
  const caption = h("caption", { text: "In the order of their ids; refreshed every 5 s." });
  const form = h("form", { onsubmit: (e) => e.preventDefault() },
    h("label", { text: "Life cycle" }, show), h("label", { text: "Id begins with" }, prefix));
  const el = panel("Twins", form, problem, table(heads, rows, [caption]), h("div", { class: "pager" }, back, on, state));

  const read = (q) => {
    show.value = choices.some(([v]) => v === q.get("show")) ? q.get("show") : "";
    prefix.value = q.get("prefix") ?? "";
  };
  read(query);
  load();
  whileVisible(REFRESH, () => load(true), signal);
  const filter = (q) => {
    read(q);
    trail = [];
    go(start, 1);
    el.scrollIntoView();
    el.querySelector("h2").focus({ preventScroll: true });
  };
  return { el, filter };
}

// ---- View 3: one twin --------------------------------------------------------------------

function meter(label, whole = false) {
  const fill = s("rect", { class: "fill", height: "100%", width: "0%" });
  const mark = s("rect", { class: "mark", width: 4, height: "100%", visibility: "hidden" });
  const bar = h("div", { role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1 },
    s("svg", { "aria-hidden": "true" }, fill, mark));
  const number = h("span", { class: "num" }), name = h("span", { text: label });
  return updating(h("div", { class: `meter ${whole ? "whole" : ""}` }, name, bar, number), (v, threshold = null) => {
    fill.setAttribute("width", `${100 * Math.min(1, Math.max(0, v ?? 0))}%`);
    say(number, ratio(v));
    bar.setAttribute("aria-valuenow", v ?? 0);
    bar.setAttribute("aria-valuetext", known(v) ? ratio(v) : "not known");
    mark.setAttribute("visibility", known(threshold) ? "visible" : "hidden");
    if (known(threshold)) mark.setAttribute("x", `${100 * threshold}%`);
  });
}

// Lateness against what is allowed: transport and compute end to end, and a mark at the limit.
function lateness() {
  const names = ["transport", "compute"], words = names.map(() => h("span")), sum = h("p", { class: "sub" });
  const bars = names.map((p) => s("rect", { height: "100%", fill: `url(#fill-${p})` }));
  const mark = s("rect", { class: "mark", width: 4, height: "100%" });
  const legend = h("ul", { class: "legend" }, ...names.map((p, i) => h("li", {}, swatch(p), words[i])));
  return updating(h("div", {}, s("svg", { class: "late", "aria-hidden": "true" }, ...bars, mark), legend, sum), (t) => {
    const parts = [t.transport_ms, t.compute_ms], total = parts[0] + parts[1], limit = t.desired_timeliness_ms ?? 0;
    const full = Math.max(total, limit, 1) * 1.05;
    let x = 0;
    parts.forEach((p, i) => {
      const share = Math.max(0, p ?? 0) / full; // a clock that is ahead may make it negative
      bars[i].setAttribute("x", `${100 * x}%`);
      bars[i].setAttribute("width", `${100 * share}%`);
      x += share;
      say(words[i], `in ${names[i]} ${millis(p)}`);
    });
    mark.setAttribute("x", `${(100 * limit) / full}%`);
    say(sum, `Together ${millis(parts.every(known) ? total : null)}; the mark is the most that is on time, ${millis(t.desired_timeliness_ms)}.`);
  });
}

function propertyRow([name]) {
  const v = h("td", { class: "value" }), at = h("td", { class: "num" });
  return updating(h("tr", {}, h("th", { scope: "row", class: "id" }, h("bdi", { text: name })), v, at),
    ([, p]) => { say(v, value(p.value)); say(at, clock(p.at)); });
}

function eventItem() {
  const time = h("time"), words = h("span");
  return updating(h("li", {}, time, " ", words), (e) => { say(time, clock(e.at)); say(words, e.text); });
}

// The last hour of one column of the archive. An answer holds at most ROWS rows: where the hour
// has more, ask on from the last one, a few times at most.
async function lastHour(base, table, stamp, column, now, signal) {
  const points = [];
  let from = new Date(now - HOUR).toISOString(), last = -Infinity;
  for (let i = 0; i < 8; i += 1) {
    const { rows } = await get(`${base}/history?table=${table}&limit=${ROWS}&from=${encodeURIComponent(from)}`, signal);
    const fresh = rows.map((r) => ({ t: Date.parse(r[stamp]), v: r[column] })).filter((p) => p.t > last);
    points.push(...fresh.map((p) => (typeof p.v === "number" ? p : { ...p, v: null })));
    last = points.at(-1)?.t ?? now;
    if (rows.length < ROWS || !fresh.length || last > now - 30e3) break;
    from = rows.at(-1)[stamp];
  }
  return thin(points);
}

class TwinView {
  constructor(main, signal, job, twin) {
    Object.assign(this, { signal, base: api("jobs", job, "twins", twin), now: null, asking: false });
    this.odte = new Series();
    this.chosen = new Series(); // of the property that the user chose
    this.properties = new Map(); // name -> {value, at}: a Map, for a name may be "__proto__"
    this.events = []; // newest first
    this.paint = painter(() => this.now && this.draw(), signal);
    this.layout(main, twin);
    this.refresh();
    // What the stream does not carry (counts, lateness, the verdict) is asked for again and again.
    whileVisible(REFRESH, () => this.refresh(), signal);
  }

  layout(main, twin) {
    this.problem = problemBox();
    this.badge = phaseBadge();
    this.verdict = h("p", { class: "says", role: "status" });
    this.cause = h("p");
    this.says = h("section", { class: "panel verdict", "aria-label": "Verdict" }, this.verdict, this.cause);
    this.meters = { timeliness: meter("Timeliness"), reliability: meter("Reliability"), availability: meter("Availability"),
      odte: meter("ODTE", true) };
    this.late = lateness();
    this.counts = numbers({
      "received": (t) => count(t.received), "on time": (t) => count(t.on_time), "expected": (t) => count(t.expected),
      "window": (t) => (known(t.window_ms) ? `${count(t.window_ms / 1000)} s` : NONE), "threshold (the mark)": (t) => value(t.threshold ?? NONE),
    });
    this.state = numbers({
      "clock offset": (t) => millis(t.clock_offset_ms), "device's time": (t) => clock(t.physical_at), "twin's time": (t) => clock(t.digital_at),
      "type": (t) => t.type ?? NONE, "generation": (t) => count(t.generation), "revision": (t) => count(t.revision),
    });
    this.rows = h("tbody");
    this.list = h("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" });
    this.quiet = h("p", { class: "sub", text: "None since this page was opened." });
    this.choice = h("select", { onchange: () => this.choose() });
    this.notes = [0, 1].map(() => h("p", { class: "sub" }));
    this.charts = [new Chart("ODTE in the last hour", (c) => drawOdte(c, ...this.shown(this.odte), Infinity)),
      new Chart("Property in the last hour", (c) => drawValue(c, ...this.shown(this.chosen)))];
    const [odte, chosen] = this.charts, form = h("form", {}, h("label", { text: "Numeric property" }, this.choice));
    this.body = h("div", { hidden: true }, this.says, h("div", { class: "columns" },
      panel("How true it is", ...Object.values(this.meters), this.counts),
      panel("Lateness and revision", this.late, this.state),
      panel("Properties", table({ "Property": "", "Value": "", "Changed at": "num" }, this.rows)),
      panel("Events since the page was opened", this.quiet, this.list),
      panel("ODTE in the last hour", odte.el, this.notes[0]),
      panel("A property in the last hour", form, chosen.el, this.notes[1])));
    main.append(title(twin, this.badge), this.problem, this.body);
  }

  goLive() {
    this.live = new Live(`${this.base}/stream`, this.signal, {
      state: (e) => this.takeState(e),
      entanglement: (e) => this.takeMeasure(e),
      lifecycle: (e) => this.takeChange(e),
      event: ({ job, twin, kind, at, ...rest }) => this.note(at ?? rest.digital_at, value(rest)),
    }, { opened: () => this.refresh() }); // after a cut the snapshot makes good what was missed
    this.archive("entanglement", "at", "odte", this.odte, this.notes[0], this.signal);
    this.choose();
  }

  async refresh() {
    if (this.asking || document.hidden) return;
    this.asking = true;
    try {
      const [snapshot, why] = await Promise.all([get(this.base, this.signal),
        get(`${this.base}/why`, this.signal).catch((e) => ({ verdict: `No verdict: ${e.message}` }))]);
      this.why = why;
      this.takeSnapshot(snapshot);
      complain(this.problem)(null);
      this.body.hidden = false;
      if (!this.live && !this.signal.aborted) this.goLive();
    } catch (e) {
      complain(this.problem)(e);
    } finally {
      this.asking = false;
    }
  }

  // The stream may overtake a snapshot: the newer properties stay, the measures are taken anyway.
  takeSnapshot(snapshot) {
    const old = this.now && !this.newer(snapshot);
    const { generation, revision, update, digital_at, physical_at, lifecycle } = old ? this.now : snapshot;
    if (!old) {
      for (const name of this.properties.keys()) if (!Object.hasOwn(snapshot.properties, name)) this.properties.delete(name);
      this.setProperties(snapshot.properties, digital_at);
    }
    this.now = { ...snapshot, generation, revision, update, digital_at, physical_at, lifecycle };
    this.odte.push({ t: Date.parse(snapshot.at), v: snapshot.odte });
    this.paint();
  }

  newer(x) {
    return x.generation > this.now.generation || (x.generation === this.now.generation && x.update >= this.now.update);
  }

  takeState(e) {
    if (!this.newer(e)) return;
    const { generation, revision, update, digital_at, physical_at, lifecycle, odte } = e;
    Object.assign(this.now, { generation, revision, update, digital_at, physical_at, lifecycle, odte });
    this.setProperties(e.properties, digital_at, e.changed);
    const v = this.properties.get(this.choice.value)?.value;
    if (typeof v === "number") this.chosen.push({ t: Date.parse(digital_at), v });
    this.paint();
  }

  takeMeasure({ at, odte, timeliness, reliability, availability }) {
    Object.assign(this.now, { odte, timeliness, reliability, availability });
    this.odte.push({ t: Date.parse(at), v: odte });
    this.paint();
  }

  takeChange(e) {
    this.now.lifecycle = e.to;
    this.note(e.at, `${e.from ?? NONE} → ${e.to}${e.reason ? ` (${e.reason})` : ""}`);
    this.refresh(); // for its verdict
  }

  note(at, text) {
    this.events.unshift({ serial: (this.events[0]?.serial ?? 0) + 1, at, text });
    if (this.events.length > MAX_ENTRIES) this.events.pop();
    this.paint();
  }

  setProperties(all, at, changed = []) {
    for (const [name, v] of Object.entries(all)) {
      const old = this.properties.get(name);
      const fresh = changed.includes(name) || (old && value(old.value) !== value(v));
      if (old || this.properties.size < MAX_ENTRIES) this.properties.set(name, { value: v, at: fresh ? at : old?.at ?? null });
    }
  }

  choose() {
    this.choosing?.abort(); // an answer for the property chosen before must not come in late
    this.choosing = new AbortController();
    this.chosen.points = [];
    const name = this.choice.value;
    this.charts[1].title = `${name} in the last hour`;
    if (name) this.archive("state", "digital_at", name, this.chosen, this.notes[1], AbortSignal.any([this.signal, this.choosing.signal]));
    else say(this.notes[1], "This twin has no numeric property.");
  }

  async archive(table, stamp, column, series, note, signal) {
    say(note, "Reading the archive…");
    try {
      const points = await lastHour(this.base, table, stamp, column, Date.parse(this.now.at), signal);
      series.load(points);
      series.alone = !points.length;
      say(note, points.length ? "" : "The archive holds nothing of this hour: the chart grows from now on.");
    } catch (e) {
      if (e.name === "AbortError") return;
      series.alone = e.status === 404;
      say(note, e.status === 404 ? "This job has no archive: the chart grows from now on." : `The archive does not answer: ${e.message}`);
    }
    this.paint();
  }

  // The points of the last hour and the span of the axis: without an archive, no longer than they.
  shown(series) {
    const end = Math.max(Date.parse(this.now.at), this.odte.points.at(-1)?.t ?? 0, this.chosen.points.at(-1)?.t ?? 0);
    const points = series.points.filter((p) => p.t >= end - HOUR);
    return [points, series.alone ? spanOf(points) : [end - HOUR, end]];
  }

  // Keeps the choice where it is still there; otherwise takes the first.
  offer() {
    const names = [...this.properties].filter(([, p]) => typeof p.value === "number").map(([name]) => name);
    if (names.join("\n") === [...this.choice.options].map((o) => o.value).join("\n")) return;
    const was = this.choice.value;
    this.choice.replaceChildren(...names.map((name) => h("option", { value: name, text: name })));
    if (names.includes(was)) this.choice.value = was;
    else this.choose();
  }

  draw() {
    const { now, why } = this;
    this.badge.update(now.lifecycle);
    this.says.classList.toggle("trouble", !["entangled", "done"].includes(now.lifecycle));
    say(this.verdict, why.verdict ?? NONE);
    say(this.cause, why.cause ? `Cause: ${cause(why.cause)}` : "");
    for (const [field, m] of Object.entries(this.meters)) m.update(now[field], field === "odte" ? now.threshold : null);
    for (const part of [this.counts, this.state, this.late]) part.update(now);
    keyed(this.rows, [...this.properties], ([name]) => name, propertyRow);
    keyed(this.list, this.events, (e) => e.serial, eventItem);
    this.list.hidden = !(this.quiet.hidden = this.events.length > 0);
    this.offer();
    this.charts.forEach((c) => c.paint());
  }
}

// ---- The router --------------------------------------------------------------------------

const main = document.getElementById("main");
let scope = null, view = null, shownAt = null;

function crumbs(parts) {
  const [, job, , twin] = parts;
  const links = [h("a", { href: "#/", text: "Jobs" })];
  if (job !== undefined) links.push(h("a", { class: "id", href: hrefOf(job), text: job }));
  if (twin !== undefined) links.push(h("a", { class: "id", href: hrefOfTwin(job, twin), text: twin }));
  links.at(-1).setAttribute("aria-current", "page");
  document.getElementById("crumbs").replaceChildren(...links.map((a) => h("span", {}, a)));
  document.title = [twin, job, "Twinloom"].filter((x) => x !== undefined).join(" – ");
}

function open(parts, query, signal) {
  const [top, job, below, twin] = parts;
  if (!parts.length) return jobsView(main, signal);
  if (top === "jobs" && parts.length === 2) return jobView(main, signal, job, query);
  if (top === "jobs" && below === "twins" && parts.length === 4) return new TwinView(main, signal, job, twin);
  main.append(h("h1", { text: "There is no such page", tabindex: "-1" }), h("p", {}, h("a", { href: "#/", text: "To the jobs" })));
  return null;
}

function route() {
  const { parts, query } = whereTo();
  const at = JSON.stringify(parts);
  if (at === shownAt && view?.filter) return view.filter(query); // another filter of the same job
  scope?.abort();
  scope = new AbortController();
  main.replaceChildren();
  connection("none");
  crumbs(parts);
  view = open(parts, query, scope.signal);
  if (shownAt !== null) main.querySelector("h1")?.focus(); // so that a screen reader tells the change
  shownAt = at;
}

// A plain link to #main would be taken for a view.
document.getElementById("skip").addEventListener("click", (e) => { e.preventDefault(); main.focus(); });
window.addEventListener("hashchange", route);
route();
