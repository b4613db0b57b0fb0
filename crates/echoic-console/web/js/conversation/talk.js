/**
 * The messages of a conversation as a scrolling list that holds a few hundred of them, however many there are.
 *
 * The list is divided into chunks. Chunks near the view are loaded and drawn, the others are empty space of their measured or
 * estimated height. Without a filter, the chunk of a message is known from its number, so that any place is one call away; with a
 * filter the chunks follow one another.
 * @module
 */
import { append, el, fill, oncePerFrame } from "../dom.js";
import { Pair, eventLine } from "./pair.js";
import { markWords } from "./words.js";

/** @typedef {import("../types.js").Messages} Messages */
/** @typedef {import("../types.js").Mark} Mark */
/** @typedef {import("./pair.js").Shown} Shown */
/**
 * @typedef {object} Chunk
 * @property {number} from number of its first message @property {number} to number before which it ends
 * @property {number} height measured in px; 0 unless it was drawn
 * @property {Pair[]} pairs @property {number} lastN number of its last message loaded; 0 if there is none
 * @property {number} upTo the same, also after it was dropped @property {number} lastT time of that message
 * @property {number} count messages in it, also after it was dropped
 * @property {HTMLElement} node @property {Promise<void> | null} loading @property {boolean} full @property {boolean} end nothing follows it
 */
/**
 * @typedef {object} TalkOptions
 * @property {HTMLElement} scroller
 * @property {(from: number, limit: number) => Promise<Messages>} load
 * @property {boolean} filtered @property {string} role
 * @property {() => Shown} shown how messages are shown
 * @property {() => void} changed called after messages were loaded
 * @property {(error: unknown, again: () => void) => void} failed with the way to try again
 */

/** Messages of a chunk: few, so that drawing one does not delay a frame. */
export const CHUNK = 25;
/** Most chunks drawn: 300 pairs. */
const DRAWN = 12;
/** Drawn beyond the view, in px. */
const MARGIN = 600;
/** Greatest height of what is not drawn, in px: browsers limit the height of an element. */
const MOST_HEIGHT = 8_000_000;
/** Height of a message before any was measured, in px. */
const PAIR_HEIGHT = 62;
/** Most chunks of a filter that are loaded to reach a message. */
const REACH = 40;
/** Distance from the end at which new messages are followed, in px. */
const EDGE = 40;

export class Talk {
  /** @param {TalkOptions} options */
  constructor(options) {
    this.options = options;
    /** @type {Chunk[]} */
    this.chunks = [];
    /** Number of the first message in the store. */
    this.base = 1;
    this.total = 0;
    /** @type {Mark[]} */
    this.marks = [];
    /** Number of the current message; 0 if there is none. */
    this.at = 0;
    this.pairHeight = PAIR_HEIGHT;
    this.measured = 0;
    this.gone = false;
    this.first = 0;
    this.last = 0;
    this.above = el("div", { class: "space" });
    this.body = el("div", { class: "chunks" });
    this.below = el("div", { class: "space" });
    this.update = oncePerFrame(() => this.#update());
    this.onScroll = () => this.update();
    options.scroller.addEventListener("scroll", this.onScroll, { passive: true });
    this.observer = new ResizeObserver(() => this.update());
    this.observer.observe(options.scroller);
    this.observer.observe(this.body);
  }

  destroy() {
    this.gone = true;
    this.options.scroller.removeEventListener("scroll", this.onScroll);
    this.observer.disconnect();
  }

  /** Begins: asks where the messages begin, and goes to message `at`, if there is one. @param {number} at */
  async start(at) {
    const { filtered, load } = this.options;
    const head = await load(1, 1);
    if (this.gone) return;
    this.base = head.exchanges[0]?.n ?? head.total + 1;
    this.marks = head.marks;
    this.total = head.total;
    if (filtered) this.chunks = head.exchanges.length > 0 ? [newChunk(this.base, Number.POSITIVE_INFINITY)] : [];
    else this.#cover();
    if (at > 0) await this.goTo(at);
    else {
      this.#update();
      if (this.chunks[0]) await this.#fill(this.chunks[0]);
    }
    this.options.changed();
  }

  /** Number of messages in the list that are known. */
  get known() {
    if (!this.options.filtered) return Math.max(0, this.total - this.base + 1);
    return this.chunks.reduce((sum, chunk) => sum + chunk.count, 0);
  }

  /** Whether all messages of the filter are loaded. */
  get complete() {
    const last = this.chunks.at(-1);
    return !last || last.end;
  }

  /** Time of the last message; negative infinity while it is not loaded. */
  get lastT() {
    const last = this.chunks.at(-1);
    return last && last.upTo > 0 ? last.lastT : Number.NEGATIVE_INFINITY;
  }

  atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.options.scroller;
    return scrollHeight - scrollTop - clientHeight < EDGE;
  }

  toEnd() {
    const { scroller } = this.options;
    scroller.scrollTop = scroller.scrollHeight;
    this.#update();
  }

  /** More messages were recorded: there are `total` now. @param {number} total */
  async grow(total) {
    if (total > this.total) this.total = total;
    const follow = this.atEnd();
    if (this.options.filtered) this.#coverFiltered();
    else this.#cover();
    const last = this.chunks.at(-1);
    if (last && last.lastN === 0) last.full = false;
    this.#update();
    const before = this.chunks.at(-2);
    if (before && before.lastN > 0 && !before.full) await this.#fill(before);
    if (last && (follow || last.lastN > 0) && this.#near(last)) await this.#fill(last);
    if (follow) this.toEnd();
  }

  /** Goes to a message. @param {number} n @returns {Promise<boolean>} whether it is in the list */
  async goTo(n) {
    if (this.options.filtered) await this.#reach(n);
    const index = this.#indexOf(n);
    const chunk = this.chunks[index];
    if (!chunk) return false;
    if (index < this.first || index >= this.last || chunk.lastN === 0) {
      // Before a part of it is drawn, the list has no height to scroll in.
      if (this.last === 0) this.#drawRange(index, index + 1);
      this.options.scroller.scrollTop = this.above.offsetTop + this.#heightBefore(index);
      this.#update();
    }
    // An answer ends early where its messages are large.
    while (!this.gone && !chunk.full && (chunk.lastN === 0 || (!chunk.end && chunk.lastN < n))) await this.#fill(chunk);
    if (this.gone) return false;
    // Others that were loaded meanwhile may have moved it out of what is drawn.
    if (!chunk.node.isConnected) this.#drawRange(index, index + 1);
    const pair = chunk.pairs.find((one) => one.exchange.n >= n) ?? chunk.pairs.at(-1);
    if (!pair) return false;
    this.#mark(pair);
    const box = pair.node.getBoundingClientRect();
    const view = this.options.scroller.getBoundingClientRect();
    const hidden = box.top < view.top || box.bottom > view.bottom;
    if (hidden) this.options.scroller.scrollTop += box.top - view.top - Math.max(8, (view.height - box.height) / 3);
    this.#update();
    return true;
  }

  /** Loads the messages of a filter as far as this one. @param {number} n */
  async #reach(n) {
    while (this.chunks.length < REACH) {
      const last = this.chunks.at(-1);
      if (!last || last.end || last.upTo >= n) return;
      await this.#fill(last);
      if (this.gone || (last.full && last === this.chunks.at(-1))) return;
    }
  }

  /** Goes to the message after the current one, or before it. @param {number} step */
  async step(step) {
    const pairs = this.#drawnPairs();
    const at = pairs.findIndex((pair) => pair.exchange.n === this.at);
    if (at < 0 && this.at === 0) {
      const top = this.options.scroller.getBoundingClientRect().top;
      const seen = pairs.find((pair) => pair.node.getBoundingClientRect().bottom > top + 8);
      if (seen) await this.goTo(seen.exchange.n);
      return;
    }
    const next = pairs[at + step];
    const n = next?.exchange.n ?? this.at + step;
    if (n >= this.base && n <= this.total) await this.goTo(n);
  }

  /** The current message. */
  current() {
    return this.#drawnPairs().find((pair) => pair.exchange.n === this.at);
  }

  /** Draws all messages with another look. @param {boolean} bytes whether their bytes look different too */
  redraw(bytes) {
    this.#keepPlace(() => {
      for (const chunk of this.chunks) {
        if (bytes) chunk.height = 0;
        if (chunk.node.isConnected) this.#drawLines(chunk, bytes);
      }
    });
    if (bytes) this.measured = 0;
    this.update();
  }

  // ---- chunks

  /** Makes chunks for all messages up to the last. */
  #cover() {
    let from = this.chunks.at(-1)?.to ?? this.base;
    for (; from <= this.total; from += CHUNK) this.chunks.push(newChunk(from, from + CHUNK));
  }

  /** Makes a chunk for messages of the filter that come. */
  #coverFiltered() {
    const last = this.chunks.at(-1);
    if (!last || (last.end && last.full && last.count > 0)) this.chunks.push(newChunk(last ? last.upTo + 1 : this.base, Number.POSITIVE_INFINITY));
  }

  /** @param {number} n */
  #indexOf(n) {
    if (!this.options.filtered) return Math.max(0, Math.min(this.chunks.length - 1, Math.floor((n - this.base) / CHUNK)));
    const at = this.chunks.findIndex((chunk) => chunk.upTo >= n);
    return at < 0 ? this.chunks.length - 1 : at;
  }

  /** @param {Chunk} chunk */
  #near(chunk) {
    const at = this.chunks.indexOf(chunk);
    return at >= this.first && at < this.last;
  }

  /** Loads what a chunk lacks. @param {Chunk} chunk */
  async #fill(chunk) {
    if (chunk.full) return;
    chunk.loading ??= this.#load(chunk).finally(() => {
      chunk.loading = null;
    });
    await chunk.loading;
  }

  /** @param {Chunk} chunk */
  async #load(chunk) {
    const { filtered, load, changed, failed } = this.options;
    try {
      const { lastN } = chunk;
      const start = lastN > 0 ? lastN + 1 : chunk.from;
      const overlap = !filtered && lastN === 0 && start > this.base ? 1 : 0;
      const wanted = Math.min(chunk.to - start, CHUNK - chunk.pairs.length);
      const answer = await load(start - overlap, wanted + overlap);
      // It may have been dropped meanwhile: then its messages are asked for from the first.
      if (this.gone || chunk.lastN !== lastN) return;
      // What was recorded meanwhile, `grow` adds.
      this.marks = answer.marks;
      this.#keepPlace(() => this.#add(chunk, answer, start));
      if (filtered && answer.next !== null && chunk.full && this.chunks.at(-1) === chunk) this.chunks.push(newChunk(answer.next, Number.POSITIVE_INFINITY));
      changed();
    } catch (error) {
      // What could not be loaded is not asked for again in every frame.
      chunk.full = true;
      if (!this.gone) failed(error, () => {
        chunk.full = false;
        this.update();
      });
    }
    this.update();
  }

  /** @param {Chunk} chunk @param {Messages} answer @param {number} start */
  #add(chunk, answer, start) {
    const earlier = answer.exchanges.filter(({ n }) => n < start).at(-1);
    const before = this.chunks[this.chunks.indexOf(chunk) - 1];
    let previous = chunk.lastN > 0 ? chunk.lastT : (earlier?.t_us ?? (before && before.upTo > 0 ? before.lastT : Number.NaN));
    const shown = this.options.shown();
    if (chunk.lastN === 0) fill(chunk.node);
    for (const exchange of answer.exchanges) {
      if (exchange.n < start || exchange.n >= chunk.to) continue;
      const pair = new Pair(exchange, Number.isNaN(previous) ? shown.start : previous, shown);
      chunk.node.append(...this.#marksBetween(previous, exchange.t_us, shown), pair.node);
      chunk.pairs.push(pair);
      if (exchange.n === this.at) this.#mark(pair);
      previous = exchange.t_us;
      chunk.lastN = exchange.n;
      chunk.upTo = exchange.n;
      chunk.lastT = exchange.t_us;
    }
    chunk.count = chunk.pairs.length;
    chunk.end = answer.next === null;
    // Numbers may be missing: what follows the chunk shows that it has no more.
    const beyond = answer.exchanges.some(({ n }) => n >= chunk.to) || (answer.next ?? 0) >= chunk.to;
    chunk.full = chunk.count >= CHUNK || chunk.count === 0 || beyond;
    if (chunk.lastN === 0) fill(chunk.node);
    chunk.height = 0;
  }

  /** Lines of what happened between two messages. @param {number} from @param {number} to @param {Shown} shown */
  #marksBetween(from, to, shown) {
    if (this.options.filtered) return [];
    const since = Number.isNaN(from) ? Number.NEGATIVE_INFINITY : from;
    const between = this.marks.filter(({ t_us }) => t_us >= since && t_us < to);
    return between.map((mark) => this.markLine(mark, Number.isNaN(from) ? shown.start : from, shown));
  }

  /** @param {Mark} mark @param {number} before @param {Shown} shown */
  markLine(mark, before, shown) {
    const [sign = "", kind = "", word = "", text = ""] = markWords(mark, this.options.role);
    return eventLine({ at: mark.t_us, icon: sign, kind, word, text }, before, shown);
  }

  /** @param {Chunk} chunk @param {boolean} bytes */
  #drawLines(chunk, bytes) {
    const shown = this.options.shown();
    for (const line of chunk.node.querySelectorAll(".ev")) line.remove();
    for (const [at, pair] of chunk.pairs.entries()) {
      pair.draw(shown, bytes);
      const first = at === 0 && chunk === this.chunks[0];
      const since = at > 0 ? (chunk.pairs[at - 1]?.exchange.t_us ?? Number.NaN) : first ? Number.NaN : pair.before;
      pair.node.before(...this.#marksBetween(since, pair.exchange.t_us, shown));
    }
  }

  // ---- what is drawn

  /** @param {number} index */
  #height(index) {
    const chunk = this.chunks[index];
    if (!chunk) return 0;
    if (chunk.height > 0) return chunk.height;
    const messages = this.options.filtered ? CHUNK : Math.min(CHUNK, this.total - chunk.from + 1);
    return Math.min(messages * this.pairHeight, MOST_HEIGHT / Math.max(1, this.chunks.length));
  }

  /** @param {number} index */
  #heightBefore(index) {
    let sum = 0;
    for (let at = 0; at < index; at++) sum += this.#height(at);
    return sum;
  }

  #drawnPairs() {
    return this.chunks.slice(this.first, this.last).flatMap(({ pairs }) => pairs);
  }

  /** @param {Pair} pair */
  #mark(pair) {
    for (const node of this.body.querySelectorAll(".pair.at")) node.classList.remove("at");
    for (const node of this.body.querySelectorAll('pre[tabindex="0"]')) node.setAttribute("tabindex", "-1");
    pair.node.classList.add("at");
    for (const node of pair.node.querySelectorAll("pre")) node.setAttribute("tabindex", "0");
    this.at = pair.exchange.n;
  }

  /** Changes what is drawn, and leaves the reader at the same message. @param {() => void} change */
  #keepPlace(change) {
    const { scroller } = this.options;
    const top = scroller.getBoundingClientRect().top;
    const anchor = [...this.body.querySelectorAll(".pair")].find((node) => node.getBoundingClientRect().bottom > top);
    const before = anchor?.getBoundingClientRect().top ?? 0;
    change();
    if (anchor?.isConnected) {
      const moved = anchor.getBoundingClientRect().top - before;
      if (moved !== 0) scroller.scrollTop += moved;
    }
  }

  #measure() {
    for (let at = this.first; at < this.last; at++) {
      const chunk = this.chunks[at];
      if (!chunk || chunk.lastN === 0 || !chunk.node.isConnected) continue;
      chunk.height = chunk.node.offsetHeight;
      if (chunk.pairs.length > this.measured) {
        this.measured = chunk.pairs.length;
        this.pairHeight = chunk.height / chunk.pairs.length;
      }
    }
  }

  #update() {
    if (this.gone || !this.body.isConnected) return;
    this.#measure();
    const { scroller } = this.options;
    const top = scroller.scrollTop - this.above.offsetTop - MARGIN;
    const bottom = top + scroller.clientHeight + 2 * MARGIN;
    let at = 0;
    let first = 0;
    let last = 0;
    for (let index = 0; index < this.chunks.length; index++) {
      const height = this.#height(index);
      if (at + height < top) first = index + 1;
      if (at < bottom) last = index + 1;
      at += height;
    }
    first = Math.max(0, Math.min(first, this.chunks.length - 1));
    last = Math.max(Math.min(last, first + DRAWN), Math.min(this.chunks.length, first + 1));
    this.#keepPlace(() => this.#drawRange(first, last));
    for (const chunk of this.chunks.slice(first, last)) if (chunk.lastN === 0 || !chunk.end) void this.#fill(chunk);
  }

  /** @param {number} first @param {number} last */
  #drawRange(first, last) {
    const wanted = new Set(this.chunks.slice(first, last));
    for (const chunk of this.chunks.slice(this.first, this.last)) {
      if (!wanted.has(chunk)) forget(chunk);
    }
    /** @type {Element | null} */
    let place = this.body.firstElementChild;
    for (const [offset, chunk] of [...wanted].entries()) {
      if (chunk.lastN === 0 && !chunk.full) {
        chunk.node.style.setProperty("--h", `${Math.round(this.#height(first + offset))}px`);
        chunk.node.classList.add("empty");
        if (!chunk.node.firstChild) append(chunk.node, el("p", { class: "await" }, this.options.filtered ? "Searching" : `Loading from #${chunk.from}`));
      } else chunk.node.classList.remove("empty");
      if (chunk.node === place) place = place.nextElementSibling;
      else this.body.insertBefore(chunk.node, place);
    }
    this.first = first;
    this.last = last;
    this.above.style.setProperty("--h", `${Math.round(this.#heightBefore(first))}px`);
    this.below.style.setProperty("--h", `${Math.round(this.#heightBefore(this.chunks.length) - this.#heightBefore(last))}px`);
    if (this.at === 0 && !this.body.querySelector('pre[tabindex="0"]')) this.body.querySelector("pre")?.setAttribute("tabindex", "0");
  }
}

/** @param {number} from @param {number} to @returns {Chunk} */
function newChunk(from, to) {
  return { from, to, height: 0, pairs: [], lastN: 0, upTo: 0, lastT: 0, count: 0, node: el("div", { class: "chunk" }), loading: null, full: false, end: false };
}

/** Drops what a chunk has loaded; its height stays. @param {Chunk} chunk */
function forget(chunk) {
  chunk.node.remove();
  fill(chunk.node);
  chunk.pairs = [];
  chunk.lastN = 0;
  chunk.full = false;
}
