// SPDX-License-Identifier: Apache-2.0
// Twinloom's page: the jobs, one job, one twin. Hand-written, no dependencies. This file shows the view
// that the address names.

import { connection, hrefOf, hrefOfTwin, whereTo } from "./api.js";
import { h } from "./elements.js";
import { jobView, jobsView } from "./jobs.js";
import { TwinView } from "./twin.js";

const main = document.getElementById("main");
let scope = null,
  view = null,
  shownAt = null;

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
  main.append(
    h("h1", { text: "There is no such page", tabindex: "-1" }),
    h("p", {}, h("a", { href: "#/", text: "To the jobs" })),
  );
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
document.getElementById("skip").addEventListener("click", (e) => {
  e.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", route);
route();
