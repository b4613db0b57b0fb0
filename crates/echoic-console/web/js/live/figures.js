/**
 * The row of figures of the last second, and the exchanges a second over five minutes as a line.
 * @module
 */
import { api } from "../api.js";
import { el, fill, setText, svg } from "../dom.js";
import { count, durationParts } from "../format.js";

/** @typedef {import("../types.js").Tick} Tick */

/** Seconds that the line shows. */
const SECONDS = 300;
const WIDTH = 156;
const HEIGHT = 32;

/** @param {string} name the window is told where it is not now */
function figure(name) {
  const value = el("dd", {}, "–");
  return { node: el("div", {}, el("dt", {}, name), value), value };
}

/** @param {HTMLElement} node @param {number | null} ns */
function showDuration(node, ns) {
  if (ns === null) {
    setText(node, "–");
    return;
  }
  const [number, unit] = durationParts(ns);
  fill(node, number, " ", el("small", {}, unit));
}

export class Figures {
  constructor() {
    this.path = svg("path", { class: "edge", "vector-effect": "non-scaling-stroke" });
    this.chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": "Exchanges a second over 5 minutes" }, this.path);
    this.rate = figure("exchanges a second");
    this.rate.node.append(el("dd", { class: "spark" }, this.chart));
    this.p50 = figure("p50, last second");
    this.p99 = figure("p99, last second");
    this.open = figure("open conversations");
    this.behind = figure("store behind");
    this.lost = figure("declared lost");
    const all = [this.rate, this.p50, this.p99, this.open, this.behind, this.lost];
    this.node = el("dl", { class: "figures", "aria-label": "Now" }, ...all.map(({ node }) => node));
    /** Exchanges a second, oldest first. @type {number[]} */
    this.history = [];
  }

  /** Fills the line from the record. */
  async start() {
    try {
      // Whole seconds, as the events tell them: the one under way would be drawn as a fall.
      const to = Math.floor(Date.now() / 1000) * 1e6;
      const stats = await api.get("/stats", { from_us: to - SECONDS * 1e6, to_us: to, step: "1s" });
      const past = stats.buckets.map((/** @type {{exchanges: number}} */ bucket) => bucket.exchanges);
      this.history = [...past, ...this.history].slice(-SECONDS);
      this.#line();
    } catch {
      // The line grows from the events.
    }
  }

  /** @param {Tick} tick @param {boolean} serves whether the console's process serves: one that does not knows nothing of queue and losses */
  tick(tick, serves) {
    setText(this.rate.value, count(tick.exchanges));
    showDuration(this.p50.value, tick.p50_ns);
    showDuration(this.p99.value, tick.p99_ns);
    setText(this.open.value, tick.open === null ? "–" : count(tick.open));
    // Where nothing waits, nothing is behind.
    const behind = serves ? (tick.behind_us ?? (tick.waiting === 0 ? 0 : null)) : null;
    const lost = serves ? (tick.lost ?? null) : null;
    showDuration(this.behind.value, behind === null ? null : behind * 1000);
    setText(this.lost.value, lost === null ? "–" : count(lost));
    this.lost.value.classList.toggle("bad", (lost ?? 0) > 0);
    this.history.push(tick.exchanges);
    if (this.history.length > SECONDS) this.history.shift();
    this.#line();
  }

  #line() {
    const { history } = this;
    const top = Math.max(1, ...history);
    const points = history.map((n, at) => {
      const x = WIDTH - (history.length - 1 - at) * (WIDTH / (SECONDS - 1));
      return `${x.toFixed(1)},${(HEIGHT - 2 - (n / top) * (HEIGHT - 4)).toFixed(1)}`;
    });
    this.path.setAttribute("d", points.length > 1 ? `M${points.join(" ")}` : "");
  }
}
