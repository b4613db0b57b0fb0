/**
 * Exchanges over time above the list: what part of it the list shows, and a range to drag for a filter.
 * @module
 */
import { api, ApiError } from "../api.js";
import { el, fill, svg } from "../dom.js";
import { counted } from "../format.js";
import { icon } from "../icons.js";

/** @typedef {{t_us: number, exchanges: number}} Bucket */
/** @typedef {{from_us: number, to_us: number, step_us: number, buckets: Bucket[], total: {exchanges: number}}} Stats */

/** Ranges to choose, in seconds; 0 is the whole record. @type {[string, number][]} */
const RANGES = [["5 min", 300], ["15 min", 900], ["1 h", 3600], ["1 d", 86400], ["all", 0]];
/** Bars drawn, at most. */
const BARS = 120;
const WIDTH = 1200;
const HEIGHT = 40;
/** Asked for again so often, in ms. */
const EVERY = 5000;

export class Minimap {
  /** @param {() => {oldest: number | null, now: number}} times of the record, in µs @param {(from: number, to: number) => void} selected a range was dragged */
  constructor(times, selected) {
    this.times = times;
    this.selected = selected;
    this.q = "";
    this.range = 0;
    /** @type {Stats | null} */
    this.stats = null;
    /** Times that the list shows. @type {[number, number] | null} */
    this.shown = null;
    this.choice = el("select", { "aria-label": "Range of the map", onchange: () => this.#choose() }, ...RANGES.map(([name, seconds]) => el("option", { value: seconds }, name)));
    this.picker = el("span", { class: "pick" }, this.choice, icon("down"));
    this.picker.hidden = true;
    this.chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.axis = el("p", {});
    this.node = el("div", { class: "minimap", hidden: true }, this.chart, this.axis);
    this.chosen = false;
    this.listen();
    this.timer = setInterval(() => document.visibilityState === "visible" && void this.load(), EVERY);
  }

  destroy() {
    clearInterval(this.timer);
  }

  #choose() {
    this.chosen = true;
    this.range = Number(this.choice.value);
    void this.load();
  }

  /** The smallest range that holds the record, unless one was chosen. */
  #rangeSeconds() {
    const { oldest, now } = this.times();
    const age = oldest === null ? 0 : (now - oldest) / 1e6;
    if (!this.chosen) {
      this.range = (RANGES.find(([, seconds]) => seconds >= age) ?? ["all", 0])[1];
      this.choice.value = String(this.range);
    }
    return this.range === 0 ? Math.max(60, age) : this.range;
  }

  /** Asks for the figures. @param {string} [q] */
  async load(q = this.q) {
    this.q = q;
    const seconds = this.#rangeSeconds();
    const { now } = this.times();
    const step = Math.max(1, Math.ceil(seconds / BARS));
    const from = Math.floor(now - seconds * 1e6);
    try {
      const rest = q.replace(/(^|\s)(sort|limit):\S+/g, " ").trim();
      const stats = await api.get("/stats", { from_us: from, to_us: Math.floor(now), step: `${step}s`, q: rest });
      if (q !== this.q) return;
      this.stats = stats;
      this.node.hidden = false;
      this.picker.hidden = false;
      this.#draw();
    } catch (error) {
      if (error instanceof ApiError) this.node.hidden = true;
    }
  }

  /** Shows which times the list shows. @param {number} from @param {number} to */
  mark(from, to) {
    if (this.shown?.[0] === from && this.shown[1] === to) return;
    this.shown = [from, to];
    this.#draw();
  }

  #draw() {
    const { stats } = this;
    if (!stats) return;
    const span = Math.max(1, stats.to_us - stats.from_us);
    /** @param {number} us */
    const x = (us) => Math.max(0, Math.min(WIDTH, ((us - stats.from_us) / span) * WIDTH));
    const most = Math.max(1, ...stats.buckets.map(({ exchanges }) => exchanges));
    const path = stats.buckets.filter(({ exchanges }) => exchanges > 0).map(({ t_us, exchanges }) => {
      const left = x(t_us);
      const right = Math.max(left + 2, x(t_us + stats.step_us) - 2);
      // The smallest bar can be seen: one exchange is not none.
      const height = Math.max(2, (exchanges / most) * (HEIGHT - 4));
      return `M${left.toFixed(1)} ${HEIGHT}v-${height.toFixed(1)}H${right.toFixed(1)}V${HEIGHT}z`;
    });
    const brush = this.dragged ?? this.shown;
    const marks = [];
    if (brush && (this.dragged || brush[1] >= stats.from_us)) {
      const left = x(brush[0]);
      const right = Math.max(left + 3, x(brush[1]));
      marks.push(svg("rect", { class: "brush", x: left, width: right - left, height: HEIGHT }), svg("path", { class: "brushline", d: `M${left} 0v${HEIGHT}M${right} 0v${HEIGHT}` }));
    }
    this.chart.replaceChildren(svg("path", { class: "area", d: path.join("") }), ...marks);
    const long = span > 86400e6;
    this.chart.setAttribute("aria-label", `${counted(stats.total.exchanges, "exchange")} from ${label(stats.from_us, long)} to ${label(stats.to_us, long)}`);
    fill(this.axis, ...[0, 1, 2, 3, 4, 5].map((at) => el("span", {}, label(stats.from_us + (span * at) / 5, long))));
  }

  /** A drag selects a range of time. */
  listen() {
    /** @param {PointerEvent} event */
    const timeAt = (event) => {
      const box = this.chart.getBoundingClientRect();
      const { from_us, to_us } = /** @type {Stats} */ (this.stats);
      return from_us + Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * (to_us - from_us);
    };
    let start = 0;
    let startX = 0;
    this.chart.addEventListener("pointerdown", (event) => {
      if (!this.stats || event.button !== 0) return;
      this.chart.setPointerCapture(event.pointerId);
      start = timeAt(event);
      startX = event.clientX;
      this.dragged = [start, start];
    });
    this.chart.addEventListener("pointermove", (event) => {
      if (!this.dragged) return;
      const at = timeAt(event);
      this.dragged = [Math.min(start, at), Math.max(start, at)];
      this.#draw();
    });
    this.chart.addEventListener("pointerup", (event) => {
      const { dragged } = this;
      this.dragged = undefined;
      if (dragged && Math.abs(event.clientX - startX) > 4) this.selected(dragged[0], dragged[1]);
      this.#draw();
    });
    this.chart.addEventListener("pointercancel", () => {
      this.dragged = undefined;
      this.#draw();
    });
  }

  /** Range that is being dragged, in µs. @type {[number, number] | undefined} */
  dragged = undefined;
}

/** @param {number} us @param {boolean} long */
function label(us, long) {
  const date = new Date(us / 1000);
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  if (long) return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
