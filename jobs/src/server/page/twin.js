// SPDX-License-Identifier: Apache-2.0
// One twin.

import { Live, REFRESH, api, get, painter, whileVisible } from "./api.js";
import { Chart, Series, drawOdte, drawValue, spanOf, thin } from "./charts.js";
import {
  MAX_ENTRIES,
  NONE,
  cause,
  clock,
  complain,
  count,
  h,
  keyed,
  known,
  millis,
  numbers,
  panel,
  phaseBadge,
  problemBox,
  ratio,
  s,
  say,
  swatch,
  table,
  title,
  updating,
  value,
} from "./elements.js";

const ROWS = 2000; // of history in one answer
const ANSWERS = 4; // of history for one chart
const HOUR = 3600e3;

function meter(label, whole = false) {
  const fill = s("rect", { class: "fill", height: "100%", width: "0%" });
  const mark = s("rect", { class: "mark", width: 4, height: "100%", visibility: "hidden" });
  const bar = h(
    "div",
    { role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1 },
    s("svg", { "aria-hidden": "true" }, fill, mark),
  );
  const number = h("span", { class: "num" }),
    name = h("span", { text: label });
  return updating(
    h("div", { class: `meter ${whole ? "whole" : ""}` }, name, bar, number),
    (v, threshold = null) => {
      fill.setAttribute("width", `${100 * Math.min(1, Math.max(0, v ?? 0))}%`);
      say(number, ratio(v));
      bar.setAttribute("aria-valuenow", v ?? 0);
      bar.setAttribute("aria-valuetext", known(v) ? ratio(v) : "not known");
      mark.setAttribute("visibility", known(threshold) ? "visible" : "hidden");
      if (known(threshold)) mark.setAttribute("x", `${100 * threshold}%`);
    },
  );
}

// Lateness against what is allowed: transport and compute end to end, and a mark at the limit.
function lateness() {
  const names = ["transport", "compute"],
    words = names.map(() => h("span")),
    sum = h("p", { class: "sub" });
  const bars = names.map((p) => s("rect", { height: "100%", fill: `url(#fill-${p})` }));
  const mark = s("rect", { class: "mark", width: 4, height: "100%" });
  const legend = h("ul", { class: "legend" }, ...names.map((p, i) => h("li", {}, swatch(p), words[i])));
  return updating(
    h("div", {}, s("svg", { class: "late", "aria-hidden": "true" }, ...bars, mark), legend, sum),
    (t) => {
      const parts = [t.transport_ms, t.compute_ms],
        total = parts[0] + parts[1],
        limit = t.desired_timeliness_ms ?? 0;
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
      const together = millis(parts.every(known) ? total : null);
      say(
        sum,
        `Together ${together}; the mark is the most that is on time, ${millis(t.desired_timeliness_ms)}.`,
      );
    },
  );
}

function propertyRow([name]) {
  const v = h("td", { class: "value" }),
    at = h("td", { class: "num" });
  return updating(
    h("tr", {}, h("th", { scope: "row", class: "id" }, h("bdi", { text: name })), v, at),
    ([, p]) => {
      say(v, value(p.value));
      say(at, clock(p.at));
    },
  );
}

function eventItem() {
  const time = h("time"),
    words = h("span");
  return updating(h("li", {}, time, " ", words), (e) => {
    say(time, clock(e.at));
    say(words, e.text);
  });
}

// The last hour of one column of the archive. An answer holds the newest ROWS rows of what was asked
// for: where the hour has more, ask for those before them, a few times at most.
async function lastHour(base, table, stamp, column, now, signal) {
  let points = [];
  const query = new URLSearchParams({ table, limit: ROWS, from: new Date(now - HOUR).toISOString() });
  for (let i = 0; i < ANSWERS; i += 1) {
    const { rows } = await get(`${base}/history?${query}`, signal);
    const part = rows.map((r) => ({
      t: Date.parse(r[stamp]),
      v: typeof r[column] === "number" ? r[column] : null,
    }));
    points = [...part, ...points];
    if (rows.length < ROWS) break;
    query.set("to", rows[0][stamp]);
  }
  return thin(points);
}

export class TwinView {
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
    this.meters = {
      timeliness: meter("Timeliness"),
      reliability: meter("Reliability"),
      availability: meter("Availability"),
      odte: meter("ODTE", true),
    };
    this.late = lateness();
    this.counts = numbers({
      received: (t) => count(t.received),
      "on time": (t) => count(t.on_time),
      expected: (t) => count(t.expected),
      window: (t) => (known(t.window_ms) ? `${count(t.window_ms / 1000)} s` : NONE),
      "threshold (the mark)": (t) => value(t.threshold ?? NONE),
    });
    this.state = numbers({
      "clock offset": (t) => millis(t.clock_offset_ms),
      "last heard": (t) => clock(t.heard_at),
      "last change": (t) => clock(t.digital_at),
      "in this phase since": (t) => clock(t.since),
      type: (t) => t.type ?? NONE,
      generation: (t) => count(t.generation),
      revision: (t) => count(t.revision),
    });
    this.rows = h("tbody");
    this.list = h("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" });
    this.quiet = h("p", { class: "sub", text: "None since this page was opened." });
    this.choice = h("select", { onchange: () => this.choose() });
    this.notes = [0, 1].map(() => h("p", { class: "sub" }));
    this.charts = [
      new Chart("ODTE in the last hour", (c) => drawOdte(c, ...this.shown(this.odte), Infinity)),
      new Chart("Property in the last hour", (c) => drawValue(c, ...this.shown(this.chosen))),
    ];
    const [odte, chosen] = this.charts,
      form = h("form", {}, h("label", { text: "Numeric property" }, this.choice));
    this.body = h(
      "div",
      { hidden: true },
      this.says,
      h(
        "div",
        { class: "columns" },
        panel("How true it is", ...Object.values(this.meters), this.counts),
        panel("Lateness and revision", this.late, this.state),
        panel("Properties", table({ Property: "", Value: "", "Changed at": "num" }, this.rows)),
        panel("Events since the page was opened", this.quiet, this.list),
        panel("ODTE in the last hour", odte.el, this.notes[0]),
        panel("A property in the last hour", form, chosen.el, this.notes[1]),
      ),
    );
    main.append(title(twin, this.badge), this.problem, this.body);
  }

  goLive() {
    this.live = new Live(
      `${this.base}/stream`,
      this.signal,
      {
        state: (e) => this.takeState(e),
        entanglement: (e) => this.takeMeasure(e),
        lifecycle: (e) => this.takeChange(e),
        event: ({ job, twin, kind, at, ...rest }) => this.note(at ?? rest.digital_at, value(rest)),
        missed: () => this.refresh(),
      },
      { opened: () => this.refresh() },
    ); // after a cut the snapshot makes good what was missed
    this.archive("entanglement", "at", "odte", this.odte, this.notes[0], this.signal);
    this.choose();
  }

  async refresh() {
    if (this.asking || document.hidden) return;
    this.asking = true;
    try {
      const [snapshot, why] = await Promise.all([
        get(this.base, this.signal),
        get(`${this.base}/why`, this.signal).catch((e) => ({ verdict: `No verdict: ${e.message}` })),
      ]);
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
    const { generation, revision, update, digital_at, heard_at, lifecycle } = old ? this.now : snapshot;
    if (!old) {
      for (const name of this.properties.keys())
        if (!Object.hasOwn(snapshot.properties, name)) this.properties.delete(name);
      this.setProperties(snapshot.properties, digital_at);
    }
    this.now = { ...snapshot, generation, revision, update, digital_at, heard_at, lifecycle };
    this.odte.push({ t: Date.parse(snapshot.at), v: snapshot.odte });
    this.paint();
  }

  newer(x) {
    return (
      x.generation > this.now.generation ||
      (x.generation === this.now.generation && x.update >= this.now.update)
    );
  }

  takeState(e) {
    if (!this.newer(e)) return;
    const { generation, revision, update, digital_at, arrived_at, lifecycle, odte } = e;
    Object.assign(this.now, {
      generation,
      revision,
      update,
      digital_at,
      heard_at: arrived_at,
      lifecycle,
      odte,
    });
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
      if (old || this.properties.size < MAX_ENTRIES)
        this.properties.set(name, { value: v, at: fresh ? at : (old?.at ?? null) });
    }
  }

  choose() {
    this.choosing?.abort(); // an answer for the property chosen before must not come in late
    this.choosing = new AbortController();
    const name = this.choice.value;
    const v = this.properties.get(name)?.value;
    this.chosen.points = typeof v === "number" ? [{ t: Date.parse(this.now.digital_at), v }] : [];
    this.charts[1].title = `${name} in the last hour`;
    if (name)
      this.archive(
        "state",
        "digital_at",
        name,
        this.chosen,
        this.notes[1],
        AbortSignal.any([this.signal, this.choosing.signal]),
      );
    else say(this.notes[1], "This twin has no numeric property.");
  }

  async archive(table, stamp, column, series, note, signal) {
    say(note, "Reading the archive…");
    try {
      const points = await lastHour(this.base, table, stamp, column, Date.parse(this.now.at), signal);
      series.load(points);
      say(note, points.length ? "" : "The archive holds nothing of this hour: the chart grows from now on.");
    } catch (e) {
      if (e.name === "AbortError") return;
      say(
        note,
        e.status === 404
          ? "This job has no archive: the chart grows from now on."
          : `The archive does not answer: ${e.message}`,
      );
    }
    this.paint();
  }

  // The points of the last hour, and the span of the axis: no longer than they.
  shown(series) {
    const end = Math.max(
      Date.parse(this.now.at),
      this.odte.points.at(-1)?.t ?? 0,
      this.chosen.points.at(-1)?.t ?? 0,
    );
    const points = series.points.filter((p) => p.t >= end - HOUR);
    return [points, spanOf(points, end)];
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
    say(
      this.cause,
      why.cause && why.cause !== "nothing" && why.cause !== "over" ? `Cause: ${cause(why.cause)}` : "",
    );
    for (const [field, m] of Object.entries(this.meters))
      m.update(now[field], field === "odte" ? now.threshold : null);
    for (const part of [this.counts, this.state, this.late]) part.update(now);
    keyed(this.rows, [...this.properties], ([name]) => name, propertyRow);
    keyed(this.list, this.events, (e) => e.serial, eventItem);
    this.list.hidden = !(this.quiet.hidden = this.events.length > 0);
    this.offer();
    this.charts.forEach((c) => c.paint());
  }
}
