/**
 * A list of rows of one height that holds few of them: it shows a window of a list of a million, loads pages by key as the reader
 * scrolls, stays where the reader is, and follows the newest row while the reader is at that edge.
 *
 * The list runs from the newest row to the oldest. The rows loaded are contiguous; how many there are above and below is known at the
 * ends and estimated from the ids in between. A browser limits the height of an element, so a long list is scaled: the scrollbar tells
 * the place, and small steps move row by row.
 * @module
 */
import { el, oncePerFrame } from "./dom.js";
import { bottomKey, filled, gapOf, isGap, ownKey, rowsOf, topKey } from "./rows/items.js";
import { Flashes, gapRow, NewBar } from "./rows/parts.js";
import { Viewport } from "./viewport.js";

/** Most rows in memory; beyond, those farthest from the reader are dropped. */
const MAX_ROWS = 800;
/** Rows drawn above and below the ones in view. */
const MARGIN = 6;
/** A page is loaded when fewer rows than this are left in a direction. */
const AHEAD = 40;
/** Pause after a failed call, in ms. */
const RETRY = 2000;

/** @typedef {import("./rows/items.js").Gap} Gap */
/**
 * @template T
 * @typedef {object} RowsOptions
 * @property {HTMLElement} scroller what scrolls
 * @property {HTMLElement} grid the list, `role=grid`, within the scroller
 * @property {HTMLElement} head its row of column heads
 * @property {(row: T) => HTMLElement} render creates the element of a row, `role=row`
 * @property {(row: T) => number} keyOf its id
 * @property {(row: T) => void} [open] Enter or a click on a row
 * @property {(row: T | undefined) => void} [moved] the current row changed
 * @property {string} one word for one row: `exchange`
 */
/**
 * @template T
 * @typedef {{older(before?: number): Promise<{rows: T[], end: boolean}>, newer(after: number): Promise<{rows: T[], end: boolean}>,
 *   oldest(): Promise<T | undefined>}} Source
 */

/** @template T */
export class Rows {
  /** @param {RowsOptions<T>} options */
  constructor(options) {
    this.options = options;
    /** Rows and gaps loaded, newest first. @type {(T | Gap)[]} */
    this.items = [];
    /** Rows above and below those loaded; estimated unless 0. */
    this.above = 0;
    this.below = 0;
    /** Newer rows, next to the first one loaded, that are held back while the reader is elsewhere. @type {(T | Gap)[]} */
    this.held = [];
    /** Number of newer rows that the reader has not seen. */
    this.unseen = 0;
    /** Greatest key known, whether or not its row is loaded. */
    this.newest = 0;
    /** Rows that came while the list was being loaded. @type {(T | Gap)[] | null} */
    this.early = null;
    /** @type {Source<T> | null} */
    this.source = null;
    /** Key of the current row. @type {number | null} */
    this.currentKey = null;
    this.oldestKey = 0;
    this.generation = 0;
    /** Keys of rows that flash when they are drawn. @type {Set<number> | undefined} */
    this.fresh = undefined;
    this.flashes = new Flashes();
    /** @type {Set<string>} */
    this.loading = new Set();
    /** Changes that came while rows were being loaded: an answer that left the server before would undo them. @type {[number, (row: T) => void][]} */
    this.changes = [];
    /** @type {Map<number, HTMLElement>} */
    this.drawn = new Map();
    this.body = el("div", { class: "rows-body", role: "presentation" });
    this.bar = new NewBar(() => this.toNewest());
    options.grid.append(this.bar.node, this.body);
    options.grid.tabIndex = 0;
    this.draw = oncePerFrame(() => this.#draw());
    const { scroller, head } = options;
    this.view = new Viewport({ scroller, head, body: this.body }, () => this.#total(), this.draw);
    this.away = new AbortController();
    this.#listen();
  }

  /** Ends the list: nothing of it is called any more. */
  destroy() {
    this.away.abort();
    this.observer?.disconnect();
    this.view.destroy();
    this.source = null;
    this.generation++;
  }

  /** Shows a list from its newest row. @param {Source<T>} source @returns {Promise<void>} */
  async show(source) {
    const generation = ++this.generation;
    this.source = source;
    this.loading.clear();
    this.changes = [];
    this.early ??= [];
    /** Rows for each id between newest and oldest. @type {number | undefined} */
    this.density = undefined;
    const page = await source.older();
    if (generation !== this.generation) return;
    this.#replace(page.rows, page.end);
    this.above = 0;
    this.held = [];
    this.unseen = 0;
    this.currentKey = null;
    this.newest = this.#firstKey() ?? 0;
    const early = this.early.filter((item) => topKey(item, this.options.keyOf) > this.newest);
    this.early = null;
    this.view.toTop();
    this.push(early);
    this.#applyChanges();
    this.draw();
    if (page.end) return;
    const oldest = await source.oldest();
    if (generation !== this.generation || !oldest) return;
    this.oldestKey = this.options.keyOf(oldest);
    this.#estimateBelow();
    this.draw();
  }

  /** Whether the reader is at the newest row. */
  atEdge() {
    return this.above === 0 && this.view.top <= 0.5;
  }

  /** Number of rows loaded, held back ones and gaps included. */
  get length() {
    return this.items.length + this.held.length;
  }

  /** Key of the newest row known, whether or not it is loaded; 0 if there is none. */
  newestKey() {
    return this.newest;
  }

  /**
   * Adds newer rows, newest first. At the edge they appear; elsewhere they wait, and the bar tells how many.
   * @param {(T | Gap)[]} rows
   */
  push(rows) {
    const first = rows[0];
    if (first === undefined) return;
    if (this.early) {
      this.early.unshift(...rows);
      this.early.splice(MAX_ROWS);
      return;
    }
    this.newest = Math.max(this.newest, topKey(first, this.options.keyOf));
    const edge = this.atEdge();
    this.unseen += rowsOf(rows);
    // With rows between these and the ones loaded, the list is loaded when the reader goes there.
    if (this.above === 0) this.held.unshift(...rows);
    if (edge) this.#release(true);
    else if (this.held.length > MAX_ROWS) this.#condense();
    // Rows come ten times a second at most, so they need not wait for a frame.
    if (edge && !document.hidden) this.#draw();
    else this.draw();
  }

  /** Loads the newest rows, if the list begins with a gap: after a burst the last rows are what the reader looks for. */
  async fillTop() {
    const first = this.items[0];
    if (first !== undefined && isGap(first) && this.atEdge()) await this.#loadGap(first);
  }

  /** The row with this key, if it is loaded. @param {number} key @returns {T | undefined} */
  find(key) {
    const item = [...this.items, ...this.held, ...(this.early ?? [])].find((one) => !isGap(one) && this.options.keyOf(one) === key);
    return /** @type {T | undefined} */ (item);
  }

  /** Rows that are drawn. @returns {T[]} */
  inView() {
    const rows = /** @type {T[]} */ (this.items.filter((item) => !isGap(item)));
    return rows.filter((row) => this.drawn.has(this.options.keyOf(row)));
  }

  /** Goes back to a row that the reader came from, loaded or not. @param {number} key */
  async goTo(key) {
    const { source, generation } = this;
    if (!source) return;
    if (!this.find(key)) {
      const page = await source.older(key + 1);
      const row = page.rows[0];
      if (generation !== this.generation || row === undefined || this.options.keyOf(row) !== key) return;
      const above = Math.max(1, Math.round((this.newest - key) * (this.density || 1)));
      this.#replace(page.rows, page.end);
      this.held = [];
      this.above = above;
      this.view.top = above;
      this.view.scrollTo();
    }
    this.currentKey = key;
    this.view.reveal(this.above + this.#currentIndex());
    this.draw();
  }

  /** Puts a row at its place among those loaded; beyond them it is loaded when the reader goes there. @param {T} row */
  insert(row) {
    const key = this.options.keyOf(row);
    const at = this.items.findIndex((item) => topKey(item, this.options.keyOf) < key);
    if (this.early || this.find(key) || (at < 0 && this.below > 0) || (at === 0 && this.above > 0)) return;
    // A gap loads its rows when the reader asks for them.
    if ([...this.items, ...this.held].some((item) => isGap(item) && item.from <= key && key <= item.to)) return;
    const last = this.held.at(-1);
    if (last !== undefined && key > bottomKey(last, this.options.keyOf)) {
      const within = this.held.findIndex((item) => topKey(item, this.options.keyOf) < key);
      this.held.splice(within < 0 ? this.held.length : within, 0, row);
      this.unseen++;
      this.draw();
      return;
    }
    this.items.splice(at < 0 ? this.items.length : at, 0, row);
    if (at >= 0 && this.above + at < this.view.top) this.view.shift(1);
    this.draw();
  }

  /** Changes a row, shown or waiting, and draws it again. @param {number} key @param {(row: T) => void} [change] @param {boolean} [flash] */
  update(key, change, flash = false) {
    if (change && (this.early || this.loading.size > 0)) {
      this.changes.push([key, change]);
      if (this.changes.length > MAX_ROWS) this.changes.shift();
    }
    const row = this.find(key);
    if (row === undefined) return;
    change?.(row);
    if (flash) this.fresh = (this.fresh ?? new Set()).add(key);
    this.drawn.get(key)?.remove();
    this.drawn.delete(key);
    this.draw();
  }

  /** Goes to the newest row and follows it. */
  toNewest() {
    if (this.above > 0 && this.source) {
      void this.show(this.source);
      return;
    }
    this.#release(false);
    this.view.toTop();
    this.draw();
  }

  /** Moves the current row. @param {number} step */
  move(step) {
    const { items } = this;
    if (items.length === 0) return;
    const at = this.#currentIndex();
    const first = Math.ceil(this.view.top - 0.01) - this.above;
    const next = at < 0 ? Math.max(0, Math.min(first, items.length - 1)) : at + step;
    const to = Math.max(0, Math.min(items.length - 1, next));
    this.currentKey = this.#keyOf(/** @type {T | Gap} */ (items[to]));
    this.view.reveal(this.above + to);
    this.options.moved?.(this.current());
    // At once: what the next key acts on is what the reader and a screen reader are told.
    this.#draw();
  }

  /** The current row, if there is one. @returns {T | undefined} */
  current() {
    const item = this.items[this.#currentIndex()];
    return item === undefined || isGap(item) ? undefined : item;
  }

  /** Opens the current row, or loads the current gap. */
  openCurrent() {
    const item = this.items[this.#currentIndex()];
    if (item === undefined) return;
    if (isGap(item)) void this.#loadGap(item);
    else this.options.open?.(item);
  }

  // ---- what is loaded

  /** @param {T[]} rows @param {boolean} end */
  #replace(rows, end) {
    this.items = rows;
    this.below = 0;
    for (const node of this.drawn.values()) node.remove();
    this.drawn.clear();
    if (!end) this.#estimateBelow();
  }

  /** Estimates from the ids how many rows are below. */
  #estimateBelow() {
    const last = this.#lastKey();
    const first = this.#firstKey() ?? 0;
    if (last === null || this.oldestKey === 0 || last <= this.oldestKey) {
      this.below = last !== null && this.oldestKey > 0 && last <= this.oldestKey ? 0 : Math.max(this.below, AHEAD);
      return;
    }
    const density = Math.min(1, this.items.length / Math.max(1, first - last + 1));
    this.density = this.density === undefined ? density : this.density;
    this.below = Math.max(1, Math.round((last - this.oldestKey) * density));
  }

  #lastKey() {
    const item = this.items.at(-1);
    return item === undefined ? null : bottomKey(item, this.options.keyOf);
  }

  #firstKey() {
    const item = this.items[0];
    return item === undefined ? null : topKey(item, this.options.keyOf);
  }

  /** @param {T | Gap} item */
  #keyOf(item) {
    return ownKey(item, this.options.keyOf);
  }

  #currentIndex() {
    return this.currentKey === null ? -1 : this.items.findIndex((item) => this.#keyOf(item) === this.currentKey);
  }

  /** Shows the rows held back. @param {boolean} flash */
  #release(flash) {
    if (this.held.length === 0) return;
    const fresh = this.held;
    this.held = [];
    this.unseen = 0;
    this.fresh = flash && this.flashes.allow(fresh.length) ? new Set(fresh.map((item) => this.#keyOf(item))) : undefined;
    this.items.unshift(...fresh);
    this.#trim("below");
  }

  /** Turns the oldest rows held back into a gap: the bar may tell 100,000 new ones, the page does not hold them. */
  #condense() {
    const dropped = this.held.splice(MAX_ROWS / 2);
    if (dropped.length > 0) this.held.push(gapOf(dropped, this.options.keyOf));
  }

  /** Drops rows from one end, if there are too many. @param {"above" | "below"} where */
  #trim(where) {
    const extra = this.items.length - MAX_ROWS;
    if (extra <= 0) return;
    if (where === "below") {
      this.items.splice(-extra);
      this.below += extra;
    } else {
      this.items.splice(0, extra);
      this.above += extra;
    }
  }

  /** Loads what the reader will see next. */
  async #load() {
    const { source, above, items, below } = this;
    const { top } = this.view;
    if (!source || items.length === 0) return;
    const view = this.view.rows();
    if (top + view < above - 2 * AHEAD || top > above + items.length + 2 * AHEAD) await this.#jump();
    else if (below > 0 && top + view > above + items.length - AHEAD) await this.#loadOlder();
    else if (above > 0 && top < above + AHEAD) await this.#loadNewer();
  }

  /** @param {string} what @param {(source: Source<T>) => Promise<void>} load */
  async #once(what, load) {
    const { source, generation } = this;
    if (!source || this.loading.has(what)) return;
    this.loading.add(what);
    try {
      await load(source);
    } catch {
      // The connection's state is shown elsewhere. A pause, so that a failing console is not asked in every frame.
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    } finally {
      if (generation === this.generation) this.loading.delete(what);
    }
    if (generation !== this.generation) return;
    this.#applyChanges();
    this.draw();
  }

  /** Makes the changes again, now that rows are loaded; each may be made twice. */
  #applyChanges() {
    const { changes } = this;
    this.changes = [];
    for (const [key, change] of changes) this.update(key, change);
  }

  #loadOlder() {
    return this.#once("older", async (source) => {
      const { generation } = this;
      const last = this.#lastKey();
      if (last === null) return;
      const page = await source.older(last);
      if (generation !== this.generation || this.#lastKey() !== last) return;
      this.items.push(...page.rows);
      if (page.end) this.below = 0;
      else this.below = Math.max(1, this.below - page.rows.length);
      this.#trim("above");
    });
  }

  #loadNewer() {
    return this.#once("newer", async (source) => {
      const { generation } = this;
      const first = this.#firstKey();
      if (first === null) return;
      const page = await source.newer(first);
      if (generation !== this.generation || this.#firstKey() !== first) return;
      this.items.unshift(...page.rows);
      this.newest = Math.max(this.newest, this.#firstKey() ?? 0);
      const reached = page.end && (this.#firstKey() ?? 0) >= this.newest;
      const above = reached ? 0 : Math.max(1, this.above - page.rows.length);
      if (reached) this.unseen = 0;
      this.view.shift(above + page.rows.length - this.above);
      this.above = above;
      this.#trim("below");
    });
  }

  /** Loads the page at a place far from what is loaded: the scrollbar was dragged. */
  #jump() {
    return this.#once("jump", async (source) => {
      const { generation } = this;
      const first = this.#firstKey();
      const last = this.#lastKey();
      if (first === null || last === null) return;
      const place = Math.max(0, this.view.top - AHEAD / 2);
      const newest = first + this.above / (this.density || 1);
      const total = this.#total();
      const before = Math.round(newest - (place / Math.max(1, total)) * (newest - this.oldestKey)) + 1;
      const page = place < 1 ? await source.older() : await source.older(before);
      if (generation !== this.generation) return;
      if (page.rows.length === 0) return;
      this.#replace(page.rows, page.end);
      this.held = [];
      this.above = place < 1 ? 0 : Math.round(place);
      this.below = page.end ? 0 : Math.max(1, total - this.above - page.rows.length);
      if (page.end) this.view.shift(total - page.rows.length - this.above);
      if (page.end) this.above = Math.max(0, total - page.rows.length);
    });
  }

  /** Loads the rows of a gap, the newest of them first. @param {Gap} gap */
  #loadGap(gap) {
    return this.#once(`gap ${gap.from}`, async (source) => {
      const page = await source.older(gap.to + 1);
      const at = this.items.indexOf(gap);
      if (at < 0) return;
      const instead = filled(gap, page, this.options.keyOf);
      this.items.splice(at, 1, ...instead);
      const first = instead[0];
      if (this.currentKey === -gap.from && first !== undefined) this.currentKey = this.#keyOf(first);
    });
  }

  // ---- where the reader is

  #total() {
    return this.above + this.items.length + this.below;
  }

  #onScroll() {
    if (!this.view.follow()) return;
    if (this.atEdge()) this.#release(false);
    this.draw();
  }

  // ---- what is drawn

  #draw() {
    if (this.away.signal.aborted) return;
    const { grid } = this.options;
    this.view.sizeBody();
    const first = Math.max(0, Math.floor(this.view.top) - MARGIN - this.above);
    const last = Math.min(this.items.length, Math.ceil(this.view.top + this.view.rows()) + MARGIN - this.above);
    const base = this.view.base();
    const visible = new Set();
    for (let at = first; at < last; at++) {
      const item = /** @type {T | Gap} */ (this.items[at]);
      const key = this.#keyOf(item);
      visible.add(key);
      this.#place(key, item, this.above + at, base);
    }
    for (const [key, node] of this.drawn) {
      if (visible.has(key)) continue;
      node.remove();
      this.drawn.delete(key);
    }
    this.fresh = undefined;
    grid.setAttribute("aria-rowcount", String(this.#total() + 1));
    const active = this.currentKey === null ? undefined : this.drawn.get(this.currentKey);
    if (active) grid.setAttribute("aria-activedescendant", active.id);
    else grid.removeAttribute("aria-activedescendant");
    this.bar.show(this.unseen);
    void this.#load();
  }

  /** @param {number} key @param {T | Gap} item @param {number} index @param {number} base */
  #place(key, item, index, base) {
    let node = this.drawn.get(key);
    if (!node) {
      node = isGap(item) ? gapRow(item, this.options.one, () => this.#loadGap(item)) : this.options.render(item);
      node.id = `${this.options.one}-${key < 0 ? `gap${-key}` : key}`;
      node.dataset.key = String(key);
      if (this.fresh?.has(key)) node.classList.add("new", "run");
      this.drawn.set(key, node);
      this.body.appendChild(node);
    }
    node.style.setProperty("--y", `${Math.round(base + index * this.view.rowHeight)}px`);
    node.setAttribute("aria-rowindex", String(index + 2));
    node.classList.toggle("focus", key === this.currentKey);
  }

  // ---- what the reader does

  #listen() {
    const { scroller, grid } = this.options;
    const { signal } = this.away;
    scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true, signal });
    grid.addEventListener("keydown", (event) => this.#onKey(event), { signal });
    this.body.addEventListener("click", (event) => this.#onClick(event), { signal });
    this.observer = new ResizeObserver(() => this.#measure());
    this.observer.observe(scroller);
  }

  /** Takes the height of a row from the styles: it differs with the width of the page. */
  #measure() {
    const probe = el("div", { class: "row probe" });
    this.body.appendChild(probe);
    const height = probe.getBoundingClientRect().height;
    probe.remove();
    if (height > 0 && height !== this.view.rowHeight) {
      this.view.rowHeight = height;
      if (this.view.top > 0) this.view.scrollTo();
    }
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.target !== this.options.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.view.rows()) - 2);
    /** @type {Record<string, () => void>} */
    const does = {
      ArrowDown: () => this.move(1),
      ArrowUp: () => this.move(-1),
      PageDown: () => this.move(page),
      PageUp: () => this.move(-page),
      Home: () => this.toNewest(),
      Enter: () => this.openCurrent(),
    };
    const run = does[event.key];
    if (!run) return;
    run();
    event.preventDefault();
  }

  /** @param {MouseEvent} event */
  #onClick(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const row = /** @type {HTMLElement | null} */ (target.closest("[data-key]"));
    if (!row || target.closest("button, input, a")) return;
    this.currentKey = Number(row.dataset.key);
    this.draw();
    const selection = getSelection();
    if (selection && !selection.isCollapsed) return;
    this.openCurrent();
  }
}
