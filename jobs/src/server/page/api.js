// SPDX-License-Identifier: Apache-2.0
// The API, where things are, and being live.

import { clockOf, say } from "./elements.js";

export const REFRESH = 5000;

export const api = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;

export async function get(url, signal) {
  // Not from the cache: an ETag stays while ODTE and the counts go on.
  const init = { signal, cache: "no-store", headers: { accept: "application/json" } };
  const answer = await fetch(url, init).catch((e) => {
    throw e.name === "AbortError" ? e : new Error("The server does not answer.");
  });
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  const words = [problem.title, problem.detail].filter(Boolean).join(": ");
  throw Object.assign(new Error(words || `the server answered ${answer.status}`), { status: answer.status });
}

export function hrefOf(job, filter = {}) {
  const query = new URLSearchParams(Object.entries(filter).filter(([, v]) => v)).toString();
  return `#/jobs/${encodeURIComponent(job)}${query && `?${query}`}`;
}
export const hrefOfTwin = (job, twin) =>
  `#/jobs/${encodeURIComponent(job)}/twins/${encodeURIComponent(twin)}`;

export function whereTo() {
  const [path, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  try {
    return {
      parts: path.split("/").filter(Boolean).map(decodeURIComponent),
      query: new URLSearchParams(query),
    };
  } catch {
    return { parts: ["?"], query: new URLSearchParams() }; // a broken percent-encoding: no such page
  }
}

const connectionEl = document.getElementById("connection");
export function connection(state) {
  if (connectionEl.className === state) return; // keeps the time of a loss
  connectionEl.className = state;
  document.body.classList.toggle("stale", state === "lost");
  say(
    connectionEl,
    {
      none: "",
      live: "● Live",
      connecting: "○ Connecting…",
      lost: `✕ Connection lost at ${clockOf(Date.now())} UTC. Trying again; what you see is from before.`,
    }[state],
  );
}

// A stream that comes back. EventSource retries by itself after a cut, but gives up for good
// after an HTTP error (say, from a proxy while the server restarts): then this opens it anew.
// A view has one stream at most: a browser gives HTTP/1.1 six connections for all its tabs.
export class Live {
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
    this.source.onopen = () => {
      connection("live");
      this.watch();
      this.opened();
    };
    this.source.onerror = () => this.failed();
    for (const [name, handle] of Object.entries(this.handlers)) {
      this.source.addEventListener(name, (e) => {
        connection("live");
        this.watch();
        handle(JSON.parse(e.data));
      });
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
    if (patience && !document.hidden)
      this.timer = setTimeout(() => {
        connection("lost");
        this.open();
      }, patience);
  }
  seen() {
    if (document.hidden) clearTimeout(this.timer);
    else if (this.source.readyState === EventSource.CLOSED) this.open();
    else this.watch();
  }
}

// Repeats `work` while the tab is to be seen, and does it at once when it comes back.
export function whileVisible(period, work, signal) {
  let timer;
  const set = () => {
    clearInterval(timer);
    if (!document.hidden) timer = setInterval(work, period);
  };
  document.addEventListener(
    "visibilitychange",
    () => {
      set();
      if (!document.hidden) work();
    },
    { signal },
  );
  signal.addEventListener("abort", () => clearInterval(timer));
  set();
}

// Draws at most every half second however fast events come, and never for a hidden tab.
export function painter(paint, signal) {
  let timer = null,
    wanted = false,
    last = -Infinity;
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
    if (timer === null && !document.hidden)
      timer = setTimeout(run, Math.max(0, last + 500 - performance.now()));
  };
}
