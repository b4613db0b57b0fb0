/**
 * A list of rows of one height that holds few of them: it shows a window of a list of a million, loads pages by key as the reader
 * scrolls, stays where the reader is, and follows the newest row while the reader is at that edge.
 *
 * The list runs from the newest row to the oldest. A browser limits the height of an element, so a long list is scaled: the
 * scrollbar tells the place, and small steps move row by row.
 * @module
 */
import { el, oncePerFrame, setAttribute } from "./dom.js";
import { RowElements } from "./rows/elements.js";
import { isGap, topKey } from "./rows/items.js";
import { MAX_ROWS, RowList } from "./rows/list.js";
import { Loader } from "./rows/loader.js";
import { Flashes, NewBar } from "./rows/parts.js";
import { listen, measure } from "./rows/reader.js";
import { Viewport } from "./viewport.js";

/** Rows drawn above and below the ones in view. */
const MARGIN = 6;

/** @typedef {import("./rows/items.js").Gap} Gap */
/** @template T @typedef {import("./rows/elements.js").RowView<T>} RowView */
/** @template T @typedef {import("./rows/loader.js").Source<T>} Source */
/**
 * @template T
 * @typedef {object} RowsOptions
 * @property {HTMLElement} scroller what scrolls
 * @property {HTMLElement} grid the list, `role=grid`, within the scroller
 * @property {HTMLElement} head its row of column heads
 * @property {() => RowView<T>} create creates an element that shows one row after another
 * @property {(row: T) => number} keyOf its id
 * @property {(row: T) => void} [open] Enter or a click on a row
 * @property {(row: T | undefined) => void} [moved] the current row changed
 * @property {string} one word for one row: `exchange`
 */

/** @template T */
export class Rows {
  /** @param {RowsOptions<T>} options */
  constructor(options) {
    this.options = options;
    /** @type {RowList<T>} */
    this.list = new RowList(options.keyOf);
    /** Rows that came while the list was being loaded. @type {(T | Gap)[] | null} */
    this.early = null;
    /** Key of the current row. @type {number | null} */
    this.currentKey = null;
    /** Keys of rows that flash when they are drawn. @type {Set<number> | undefined} */
    this.fresh = undefined;
    this.flashes = new Flashes();
    /** Changes that came while rows were being loaded: an answer that left the server before would undo them. @type {[number, (row: T) => void][]} */
    this.changes = [];
    this.body = el("div", { class: "rows-body", role: "presentation" });
    /** @type {RowElements<T>} */
    this.elements = new RowElements(this.body, options.one, options.create, (gap) => void this.loadGap(gap));
    this.bar = new NewBar(() => this.toNewest());
    const { scroller, head, grid } = options;
    grid.append(this.bar.node, this.body);
    grid.tabIndex = 0;
    this.draw = oncePerFrame(() => this.#draw());
    this.view = new Viewport({ scroller, head, body: this.body }, () => this.list.total, this.draw);
    /** @type {Loader<T>} */
    this.loader = new Loader(this.list, this.view, () => this.#loaded());
    this.away = new AbortController();
    listen(this, this.away.signal);
  }

  /** Ends the list: nothing of it is called any more. */
  destroy() {
    this.away.abort();
    this.view.destroy();
    this.loader.begin(null);
  }

  /** Shows a list from its newest row. @param {Source<T>} source @returns {Promise<void>} */
  async show(source) {
    const { list, loader, options } = this;
    const generation = loader.begin(source);
    this.changes = [];
    this.early ??= [];
    list.density = undefined;
    const page = await source.older().catch((error) => {
      if (generation === loader.generation) this.#takeEarly();
      throw error;
    });
    if (generation !== loader.generation) return;
    list.start(page.rows, page.end);
    this.currentKey = null;
    this.#toTop();
    this.#takeEarly();
    this.#applyChanges();
    this.draw();
    if (page.end) return;
    const oldest = await source.oldest();
    if (generation !== loader.generation || !oldest) return;
    list.oldestKey = options.keyOf(oldest);
    list.estimateBelow();
    this.draw();
  }

  /** Adds the rows that came while the list was being loaded. */
  #takeEarly() {
    /** @type {(T | Gap)[]} */
    const early = this.early ?? [];
    this.early = null;
    this.push(early.filter((item) => topKey(item, this.options.keyOf) > this.list.newest));
  }

  /** Whether the reader is at the newest row. */
  atEdge() {
    return this.list.above === 0 && this.view.top <= 0.5;
  }

  /** Number of rows loaded, held back ones and gaps included. */
  get length() {
    return this.list.length;
  }

  /** Whether all rows of the list are loaded. */
  get isWhole() {
    return this.list.below === 0 && this.list.above === 0;
  }

  /** Number of rows below those loaded; estimated unless 0. */
  get below() {
    return this.list.below;
  }

  /** Sets it, for a search that was stopped or goes on. @param {number} n */
  set below(n) {
    this.list.below = n;
  }

  /** Key of the newest row known, whether or not it is loaded; 0 if there is none. */
  newestKey() {
    return this.list.newest;
  }

  /**
   * Adds newer rows, newest first. At the edge they appear; elsewhere they wait, and the bar tells how many.
   * @param {(T | Gap)[]} rows
   */
  push(rows) {
    if (rows.length === 0) return;
    if (this.early) {
      this.early.unshift(...rows);
      this.early.splice(MAX_ROWS);
      return;
    }
    const edge = this.atEdge();
    this.list.hold(rows);
    if (edge) this.release(true);
    else this.list.condense();
    // Rows come ten times a second at most, so they need not wait for a frame.
    if (edge && !document.hidden) this.#draw();
    else this.draw();
  }

  /** Loads the newest rows, if the list begins with a gap: after a burst the last rows are what the reader looks for. */
  async fillTop() {
    const first = this.list.items[0];
    if (first !== undefined && isGap(first) && this.atEdge()) await this.loadGap(first);
  }

  /** The row with this key, if it is loaded. @param {number} key @returns {T | undefined} */
  find(key) {
    const early = this.early?.find((one) => !isGap(one) && this.options.keyOf(one) === key);
    return this.list.find(key) ?? /** @type {T | undefined} */ (early);
  }

  /** Rows that are drawn. @returns {T[]} */
  inView() {
    const rows = /** @type {T[]} */ (this.list.items.filter((item) => !isGap(item)));
    return rows.filter((row) => this.elements.has(this.options.keyOf(row)));
  }

  /** Goes back to a row that the reader came from, loaded or not. @param {number} key */
  async goTo(key) {
    const { list } = this;
    const { source, generation } = this.loader;
    if (!source) return;
    if (!this.find(key)) {
      const page = await source.older(key + 1);
      const row = page.rows[0];
      if (generation !== this.loader.generation || row === undefined || this.options.keyOf(row) !== key) return;
      const above = Math.max(1, Math.round((list.newest - key) * (list.density || 1)));
      list.replace(page.rows, page.end);
      list.above = above;
      this.view.top = above;
      this.view.scrollTo();
    }
    this.currentKey = key;
    this.view.reveal(list.above + list.indexOf(key));
    this.draw();
  }

  /** Puts a row at its place among those loaded; beyond them it is loaded when the reader goes there. @param {T} row */
  insert(row) {
    const { list } = this;
    if (this.early) return;
    const at = list.insert(row);
    if (at >= 0 && at < list.items.length - 1 && list.above + at < this.view.top) this.view.shift(1);
    this.draw();
  }

  /** Changes a row, shown or waiting, and fills it in again. @param {number} key @param {(row: T) => void} [change] @param {boolean} [flash] */
  update(key, change, flash = false) {
    if (change && (this.early || this.loader.isBusy)) {
      this.changes.push([key, change]);
      if (this.changes.length > MAX_ROWS) this.changes.shift();
    }
    const row = this.find(key);
    if (row === undefined) return;
    change?.(row);
    if (flash) this.fresh = (this.fresh ?? new Set()).add(key);
    this.elements.spoil(key);
    this.draw();
  }

  /** Goes to the newest row and follows it. */
  toNewest() {
    const { source } = this.loader;
    if (this.list.above > 0 && source) {
      this.show(source).catch(() => {});
      return;
    }
    this.release(false);
    this.#toTop();
    this.draw();
  }

  /** Goes to the first row. The bar above the rows goes first: it takes a place of its own. */
  #toTop() {
    this.bar.show(this.list.unseen);
    this.view.toTop();
  }

  /** Moves the current row. @param {number} step */
  move(step) {
    const { items, above } = this.list;
    if (items.length === 0) return;
    const at = this.list.indexOf(this.currentKey);
    const first = Math.ceil(this.view.top - 0.01) - above;
    const next = at < 0 ? Math.max(0, Math.min(first, items.length - 1)) : at + step;
    const to = Math.max(0, Math.min(items.length - 1, next));
    this.currentKey = this.list.keyOf(/** @type {T | Gap} */ (items[to]));
    this.view.reveal(above + to);
    this.options.moved?.(this.current());
    // At once: what the next key acts on is what the reader and a screen reader are told.
    this.#draw();
  }

  /** The current row, if there is one. @returns {T | undefined} */
  current() {
    const item = this.#currentItem();
    return item === undefined || isGap(item) ? undefined : item;
  }

  /** Opens the current row, or loads the current gap. */
  openCurrent() {
    const item = this.#currentItem();
    if (item === undefined) return;
    if (isGap(item)) void this.loadGap(item);
    else this.options.open?.(item);
  }

  #currentItem() {
    return this.list.items[this.list.indexOf(this.currentKey)];
  }

  /** Shows the rows held back. @param {boolean} flash */
  release(flash) {
    const keys = this.list.release();
    if (keys.length > 0) this.fresh = flash && this.flashes.allow(keys.length) ? new Set(keys) : undefined;
  }

  /** Loads rows of a gap. @param {Gap} gap */
  loadGap(gap) {
    return this.loader.gap(gap, (first) => {
      if (this.currentKey === -gap.from) this.currentKey = this.list.keyOf(first);
    });
  }

  #loaded() {
    this.#applyChanges();
    this.draw();
  }

  /** Makes the changes again, now that rows are loaded; each may be made twice. */
  #applyChanges() {
    const { changes } = this;
    this.changes = [];
    for (const [key, change] of changes) this.update(key, change);
  }

  #draw() {
    if (this.away.signal.aborted) return;
    const { list, view, elements, currentKey } = this;
    const { grid } = this.options;
    if (!view.measured) measure(this);
    view.sizeBody();
    const first = Math.max(0, Math.floor(view.top) - MARGIN - list.above);
    const last = Math.min(list.items.length, Math.ceil(view.top + view.rows()) + MARGIN - list.above);
    const base = view.base();
    const shown = list.items.slice(first, Math.max(first, last));
    const keys = shown.map((item) => list.keyOf(item));
    elements.leave(new Set(keys));
    for (const [n, item] of shown.entries()) {
      const key = /** @type {number} */ (keys[n]);
      const index = list.above + first + n;
      elements.place(key, item, { y: base + index * view.rowHeight, index, current: key === currentKey, flash: this.fresh?.has(key) === true });
    }
    elements.settle();
    this.fresh = undefined;
    setAttribute(grid, "aria-rowcount", list.total + 1);
    setAttribute(grid, "aria-activedescendant", (currentKey !== null && elements.drawn.get(currentKey)?.node.id) || null);
    this.bar.show(list.unseen);
    void this.loader.look();
  }
}
