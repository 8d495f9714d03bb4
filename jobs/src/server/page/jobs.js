// SPDX-License-Identifier: Apache-2.0
// All jobs, and one of them.

import { Live, REFRESH, api, get, hrefOf, hrefOfTwin, painter, whileVisible } from "./api.js";
import { Chart, MAX_SAMPLES, Series, drawBands, drawOdte, spanOf } from "./charts.js";
import {
  MAX_ENTRIES,
  NONE,
  PHASES,
  TROUBLED,
  cause,
  clock,
  complain,
  count,
  h,
  keyed,
  isMeasured,
  notEntangled,
  numbers,
  panel,
  phaseBadge,
  plural,
  problemBox,
  rate,
  ratio,
  s,
  say,
  swatch,
  table,
  title,
  updating,
} from "./elements.js";

const NOT_ENTANGLED = "not-entangled";
const STATUS = {
  running: "▶ running",
  paused: "❚❚ paused",
  ended: "■ ended",
  done: "✓ done",
  failed: "✕ failed",
};
const PAGE = 50; // twins on a page

// ---- What both views say of a job ---------------------------------------------------------

// The life cycle now: a stacked bar and, under it, each phase with its number.
function lifeCycle(job) {
  const bars = PHASES.map((p) => s("rect", { height: "100%", fill: `url(#fill-${p})` }));
  const words = PHASES.map(() => h("span"));
  const bar = s("svg", { class: "band", role: "img" }, ...bars);
  const entries = PHASES.map((p, i) =>
    h("li", {}, h("a", { href: hrefOf(job, { show: p }) }, swatch(p), words[i])),
  );
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
  const head = h("a"),
    list = h("ul", { class: "causes" });
  const make = () =>
    updating(h("li"), function (c) {
      say(this, `${plural(c.twins, "twin")}: ${cause(c.cause)}`);
    });
  return updating(h("div", {}, head, list), (job) => {
    const n = notEntangled(job.phases);
    const all = `Every twin is entangled${job.phases.entangled === job.twins ? "" : ", done or stopped"}`;
    say(head, n ? `${plural(n, "twin")} not entangled` : job.twins ? all : "No twins yet");
    if (n) head.setAttribute("href", hrefOf(job.job, { show: NOT_ENTANGLED }));
    else head.removeAttribute("href");
    keyed(list, job.causes.slice(0, MAX_ENTRIES), (c) => c.cause, make);
  });
}

// What both the list and the job's own view say of a job.
function jobParts(name) {
  const badge = h("span", { class: "badge" }),
    reason = h("p", { class: "problem", hidden: true });
  const counts = numbers({
    twins: (j) => count(j.twins),
    "ODTE, mean": (j) => ratio(isMeasured(j.phases) ? j.odte_mean : null),
    "ODTE, 5th percentile": (j) => ratio(isMeasured(j.phases) ? j.odte_p05 : null),
    "events per second": (j) => rate(j.events_per_second),
    events: (j) => count(j.events),
    "dead letters": (j) => count(j.dead_letters),
  });
  const cycle = lifeCycle(name),
    causes = causesOf();
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
  return updating(
    h("li", { class: "panel" }, h("div", { class: "title" }, name, badge), reason, counts, cycle, causes),
    update,
  );
}

export function jobsView(main, signal) {
  const list = h("ul", { class: "cards" }),
    more = h("p", { hidden: true }),
    problem = problemBox();
  const empty = h(
    "div",
    { class: "empty", hidden: true },
    h("p", { text: "There are no jobs yet. Submit one with:" }),
    h("p", {}, h("code", { text: "twinloom apply job.yaml" })),
  );
  main.append(h("h1", { text: "Jobs", tabindex: "-1" }), problem, empty, list, more);
  let jobs = [];
  const paint = painter(() => {
    keyed(list, jobs.slice(0, MAX_ENTRIES), (j) => j.job, jobCard);
    empty.hidden = jobs.length > 0;
    more.hidden = jobs.length <= MAX_ENTRIES;
    say(more, `${plural(jobs.length - MAX_ENTRIES, "more job")} not shown here.`);
  }, signal);
  overview(signal, problem, (data) => {
    jobs = data.jobs;
    paint();
  });
}

// The first overview by GET, for it is there at once; then the stream's, one a second.
function overview(signal, problem, show, opened) {
  let streaming = false;
  const take = (data) => {
    problem.hidden = true;
    show(data);
  };
  get("/v1/overview", signal)
    .then((data) => streaming || take(data))
    .catch(complain(problem));
  new Live(
    "/v1/overview/stream",
    signal,
    {
      overview: (data) => {
        streaming = true;
        take(data);
      },
    },
    { patience: 6000, opened },
  );
}

// ---- View 2: one job ---------------------------------------------------------------------

export function jobView(main, signal, name, query) {
  const problem = problemBox(),
    gone = h("p", { class: "problem", hidden: true, text: `There is no job of the name ${name}.` });
  const { badge, reason, counts, cycle, causes, update } = jobParts(name);
  const about = h("p", { class: "sub" }),
    series = new Series(),
    hole = 30e3;
  const odte = new Chart("Fleet ODTE over time", (c) =>
    drawOdte(c, series.points, spanOf(series.points), hole),
  );
  const bands = new Chart("Life cycle over time", (c) => drawBands(c, series.points, hole));
  let latest = null;
  const twins = twinList(name, signal, query);
  const body = h(
    "div",
    {},
    about,
    reason,
    counts,
    h(
      "div",
      { class: "columns" },
      panel("Fleet ODTE over time", odte.el),
      panel("Life cycle over time", bands.el),
    ),
    panel("Life cycle now", cycle, causes),
    twins.el,
  );
  main.append(title(name, badge), problem, gone, body);

  const paint = painter(() => {
    gone.hidden = !(body.hidden = latest === null);
    if (!latest) return;
    update(latest);
    const tenant = latest.tenant ? `, tenant ${latest.tenant}` : "";
    say(about, `version ${latest.version}, generation ${count(latest.generation)}${tenant}`);
    odte.paint();
    bands.paint();
  }, signal);
  const sample = (x) => ({
    t: Date.parse(x.at),
    v: isMeasured(x.phases) ? x.odte_mean : null,
    phases: x.phases,
  });
  // Also after each reconnection, to fill what the page missed.
  const loadTrend = () =>
    get(`${api("jobs", name)}/trend`, signal)
      .then(({ samples }) => {
        series.load(samples.slice(-MAX_SAMPLES).map(sample));
        paint();
      })
      .catch((e) => e.status !== 404 && complain(problem)(e));
  overview(
    signal,
    problem,
    (data) => {
      latest = data.jobs.find((j) => j.job === name) ?? null;
      if (latest) series.push(sample({ ...latest, at: data.at }));
      paint();
    },
    loadTrend,
  );
  loadTrend();
  return { filter: twins.filter };
}

// One page of twins.
function twinPage(job, { show, prefix }, cursor, signal) {
  const lifecycle = show === NOT_ENTANGLED ? TROUBLED.join() : show;
  const query = new URLSearchParams({ limit: PAGE });
  for (const [k, v] of Object.entries({ lifecycle, prefix, cursor })) if (v) query.set(k, v);
  return get(`${api("jobs", job, "twins")}?${query}`, signal);
}

function twinRow(job, twin) {
  const link = h("a", { class: "id", href: hrefOfTwin(job, twin) }, h("bdi", { text: twin }));
  const badge = phaseBadge(),
    fields = ["odte", "timeliness", "reliability", "availability"];
  const cells = fields.map((f) => h("td", { class: f === "odte" ? "num" : "num wide" }));
  const type = h("td", { class: "wide" }),
    at = h("td", { class: "num wide" });
  return updating(
    h("tr", {}, h("th", { scope: "row" }, link), type, h("td", {}, badge), ...cells, at),
    (t) => {
      say(type, t.type ?? NONE);
      badge.update(t.lifecycle);
      fields.forEach((f, i) => say(cells[i], ratio(t[f])));
      say(at, clock(t.digital_at));
    },
  );
}

function twinList(job, signal, query) {
  const choices = [["", "all"], [NOT_ENTANGLED, "not entangled"], ...PHASES.map((p) => [p, p])];
  const show = h("select", {}, ...choices.map(([v, text]) => h("option", { value: v, text })));
  const prefix = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const rows = h("tbody"),
    state = h("span", { role: "status" }),
    problem = problemBox();
  const back = h("button", { type: "button", text: "← Previous" }),
    on = h("button", { type: "button", text: "Next →" });
  let from = null,
    trail = [],
    next = null,
    page = 1,
    asked = null,
    wait = null;

  const load = async (quiet = false) => {
    if (quiet && asked) return; // a refresh does not cut short what the user asked for
    asked?.abort();
    const mine = (asked = new AbortController());
    try {
      const got = await twinPage(
        job,
        { show: show.value, prefix: prefix.value },
        from,
        AbortSignal.any([signal, mine.signal]),
      );
      next = got.next;
      keyed(
        rows,
        got.twins.slice(0, MAX_ENTRIES),
        (t) => t.twin,
        (t) => twinRow(job, t.twin),
      );
      const number = got.twins.length ? plural(got.twins.length, "twin") : "No twins";
      say(state, `${number} on page ${page}${next ? "" : ", the last"}`);
      back.disabled = !trail.length;
      on.disabled = !next;
      complain(problem)(null);
    } catch (e) {
      complain(problem)(e);
    } finally {
      if (asked === mine) asked = null;
    }
  };
  const go = (to, n) => {
    from = to;
    page = n;
    load();
  };
  back.onclick = () => trail.length && go(trail.pop(), page - 1);
  on.onclick = () => {
    if (!next || asked) return; // a second press must not skip a page
    trail = [...trail, from].slice(-MAX_ENTRIES);
    go(next, page + 1);
  };
  const changed = () => {
    trail = [];
    history.replaceState(null, "", hrefOf(job, { show: show.value, prefix: prefix.value }));
    go(null, 1);
  };
  show.onchange = changed;
  prefix.oninput = () => {
    clearTimeout(wait);
    wait = setTimeout(changed, 300);
  };
  signal.addEventListener("abort", () => clearTimeout(wait));

  const heads = {
    Twin: "",
    Type: "wide",
    "Life cycle": "",
    ODTE: "num",
    Timeliness: "num wide",
    Reliability: "num wide",
    Availability: "num wide",
    "As of": "num wide",
  };
  const caption = h("caption", { text: "In the order of their ids; refreshed every 5 s." });
  const form = h(
    "form",
    { onsubmit: (e) => e.preventDefault() },
    h("label", { text: "Life cycle" }, show),
    h("label", { text: "Id begins with" }, prefix),
  );
  const el = panel(
    "Twins",
    form,
    problem,
    table(heads, rows, [caption]),
    h("div", { class: "pager" }, back, on, state),
  );

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
    go(null, 1);
    el.scrollIntoView();
    el.querySelector("h2").focus({ preventScroll: true });
  };
  return { el, filter };
}
