// SPDX-License-Identifier: Apache-2.0
// What the views are written with: the words and numbers of the page, and its elements.
// Text from the API reaches the document by textContent only: ids may hold anything.

export const PHASES = ["unbound", "bound", "entangled", "disentangled", "done", "stopped"];
const CAUSES = {
  late_in_transport: "late in transport (messages take too long to reach the engine)",
  clock_wrong: "clock wrong (the device claims times that are not believed)",
  late_in_compute: "late in compute (the engine applies messages too late)",
  messages_missing: "messages missing (fewer arrive than are expected)",
  silent: "silent (nothing arrives)",
  source_lost: "source lost (the engine cannot read the source)",
  never_heard: "never heard (known, but nothing has arrived yet)",
  down: "down (its presence says so)",
  was_down: "was down (it was down for a part of the window)",
  settling: "settling (too early to judge)",
};
export const MAX_ENTRIES = 200; // of any list

export const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const known = (x) => x !== null && x !== undefined && !Number.isNaN(x);
export const count = (x) => (known(x) ? whole.format(x) : NONE);
export const rate = (x) => (known(x) ? tenths.format(x) : NONE);
const hundredths = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
export const millis = (x) =>
  known(x) ? (Math.abs(x) < 1000 ? `${hundredths.format(x)} ms` : `${hundredths.format(x / 1000)} s`) : NONE;
// Rounded down, so that 1.000 is said only of what is wholly true.
export const ratio = (x) => (known(x) ? (Math.floor(x * 1000 + 1e-6) / 1000).toFixed(3) : NONE);
export const clock = (at) => (at ? at.slice(11, 19) : NONE);
export const clockOf = (ms) => clock(new Date(ms).toISOString());
export const cause = (c) => CAUSES[c] ?? String(c).replaceAll("_", " ");
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
export const twinsIn = (phases) => PHASES.reduce((n, p) => n + (phases[p] ?? 0), 0);
// Twins of these should be entangled; those that are done or stopped take no more updates.
export const TROUBLED = ["disentangled", "bound", "unbound"];
export const notEntangled = (phases) => TROUBLED.reduce((n, p) => n + (phases[p] ?? 0), 0);
// Whether there is a twin of which ODTE tells: without one, the server's mean is 0.
export const isMeasured = (phases) => notEntangled(phases) + (phases.entangled ?? 0) > 0;

export function value(v) {
  if (typeof v === "number") return String(+v.toPrecision(9));
  const text = typeof v === "string" ? v : (JSON.stringify(v) ?? NONE);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

function build(el, attrs, kids) {
  for (const [name, v] of Object.entries(attrs)) {
    if (name === "text") el.textContent = v;
    else if (name.startsWith("on")) el.addEventListener(name.slice(2), v);
    else if (v !== null && v !== false) el.setAttribute(name, v === true ? "" : v);
  }
  el.append(...kids);
  return el;
}
export const h = (tag, attrs = {}, ...kids) => build(document.createElement(tag), attrs, kids);
export const s = (tag, attrs = {}, ...kids) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, kids);

// Writes only what differs: an untouched node is not read out again, and keeps its selection.
export const say = (el, text) => {
  if (el.textContent !== text) el.textContent = text;
};

// An element that can show another state of what it stands for.
export const updating = (el, update) => Object.assign(el, { update });

// Makes the children of `parent` those of `items`, keeping a key's element (and so its focus).
// `make` gives an updating element.
const kept = new WeakMap();
export function keyed(parent, items, key, make) {
  const old = kept.get(parent) ?? new Map();
  const now = new Map(items.map((item) => [key(item), item]));
  for (const [k, el] of old)
    if (!now.has(k)) {
      el.remove();
      old.delete(k);
    }
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

export const panel = (text, ...kids) =>
  h("section", { class: "panel", "aria-label": text }, h("h2", { text, tabindex: "-1" }), ...kids);

// A row of numbers with their names; `fields` maps a name to how it is read from the item.
export function numbers(fields) {
  const cells = Object.entries(fields).map(([name, read]) => ({
    read,
    dt: h("dt", { text: name }),
    dd: h("dd"),
  }));
  return updating(h("dl", { class: "numbers" }, ...cells.map(({ dt, dd }) => h("div", {}, dt, dd))), (item) =>
    cells.forEach(({ read, dd }) => say(dd, read(item))),
  );
}

// A table that scrolls by itself rather than widen the page; `heads` maps a heading to its class.
export function table(heads, rows, caption = []) {
  const cells = Object.entries(heads).map(([text, c]) => h("th", { scope: "col", class: c, text }));
  return h(
    "div",
    { class: "scroll" },
    h("table", {}, ...caption, h("thead", {}, h("tr", {}, ...cells)), rows),
  );
}

export const swatch = (fill) =>
  s(
    "svg",
    { class: "swatch", "aria-hidden": "true" },
    s("rect", { width: "100%", height: "100%", fill: `url(#fill-${fill})` }),
  );

export function phaseBadge() {
  const word = h("span"),
    el = h("span", { class: "phase" });
  return updating(el, (phase) => {
    if (word.textContent === phase) return;
    word.textContent = phase;
    el.replaceChildren(...(PHASES.includes(phase) ? [swatch(phase)] : []), word);
  });
}

// Shows an error, or by null that it is over.
export const complain = (el) => (error) => {
  if (error?.name === "AbortError") return;
  el.hidden = !error;
  say(el, error ? error.message : "");
};
export const title = (id, badge) =>
  h("div", { class: "title" }, h("h1", { class: "id", tabindex: "-1" }, h("bdi", { text: id })), badge);
export const problemBox = () => h("p", { class: "problem", role: "alert", hidden: true });
