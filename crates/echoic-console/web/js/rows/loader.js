/**
 * Loads pages of a list as the reader comes near them: the next one in either direction, one far away, the rows of a gap.
 * @module
 */
import { filled } from "./items.js";
import { AHEAD } from "./list.js";

/** Pause after a failed call, in ms. */
const RETRY = 2000;

/** @typedef {import("./items.js").Gap} Gap */
/**
 * @template T
 * @typedef {{older(before?: number): Promise<{rows: T[], end: boolean}>, newer(after: number): Promise<{rows: T[], end: boolean}>,
 *   oldest(): Promise<T | undefined>}} Source
 */

/** @template T */
export class Loader {
  /**
   * @param {import("./list.js").RowList<T>} list
   * @param {import("../viewport.js").Viewport} view
   * @param {() => void} loaded called after rows were loaded
   */
  constructor(list, view, loaded) {
    this.list = list;
    this.view = view;
    this.loaded = loaded;
    /** @type {Source<T> | null} */
    this.source = null;
    /** Counts the sources: what was asked of an earlier one is of no use. */
    this.generation = 0;
    /** @type {Set<string>} */
    this.loading = new Set();
  }

  /** Takes rows from this source from now on, or from none. @param {Source<T> | null} source @returns {number} the generation */
  begin(source) {
    this.source = source;
    this.loading.clear();
    return ++this.generation;
  }

  /** Whether rows are being loaded. */
  get isBusy() {
    return this.loading.size > 0;
  }

  /** Loads what the reader will see next. */
  async look() {
    const { above, items, below } = this.list;
    const { top } = this.view;
    if (!this.source || items.length === 0) return;
    const rows = this.view.rows();
    if (top + rows < above - 2 * AHEAD || top > above + items.length + 2 * AHEAD) await this.#jump();
    else if (below > 0 && top + rows > above + items.length - AHEAD) await this.#older();
    else if (above > 0 && top < above + AHEAD) await this.#newer();
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
    if (generation === this.generation) this.loaded();
  }

  #older() {
    return this.#once("older", async (source) => {
      const { list, generation } = this;
      const last = list.lastKey();
      if (last === null) return;
      const page = await source.older(last);
      if (generation !== this.generation || list.lastKey() !== last) return;
      list.items.push(...page.rows);
      list.below = page.end ? 0 : Math.max(1, list.below - page.rows.length);
      list.trim("above");
    });
  }

  #newer() {
    return this.#once("newer", async (source) => {
      const { list, generation } = this;
      const first = list.firstKey();
      if (first === null) return;
      const page = await source.newer(first);
      if (generation !== this.generation || list.firstKey() !== first) return;
      list.items.unshift(...page.rows);
      list.newest = Math.max(list.newest, list.firstKey() ?? 0);
      const reached = page.end && (list.firstKey() ?? 0) >= list.newest;
      const above = reached ? 0 : Math.max(1, list.above - page.rows.length);
      if (reached) list.unseen = 0;
      this.view.shift(above + page.rows.length - list.above);
      list.above = above;
      list.trim("below");
    });
  }

  /** Loads the page at a place far from what is loaded: the scrollbar was dragged. */
  #jump() {
    return this.#once("jump", async (source) => {
      const { list, generation } = this;
      const first = list.firstKey();
      const last = list.lastKey();
      if (first === null || last === null) return;
      const place = Math.max(0, this.view.top - AHEAD / 2);
      const newest = first + list.above / (list.density || 1);
      const { total } = list;
      const before = Math.round(newest - (place / Math.max(1, total)) * (newest - list.oldestKey)) + 1;
      const page = place < 1 ? await source.older() : await source.older(before);
      if (generation !== this.generation || page.rows.length === 0) return;
      list.replace(page.rows, page.end);
      list.above = place < 1 ? 0 : Math.round(place);
      list.below = page.end ? 0 : Math.max(1, total - list.above - page.rows.length);
      if (page.end) {
        this.view.shift(total - page.rows.length - list.above);
        list.above = Math.max(0, total - page.rows.length);
      }
    });
  }

  /**
   * Loads the rows of a gap, the newest of them first.
   * @param {Gap} gap @param {(instead: T | Gap) => void} replaced told the first item that stands in its place
   */
  gap(gap, replaced) {
    return this.#once(`gap ${gap.from}`, async (source) => {
      const { list } = this;
      const page = await source.older(gap.to + 1);
      const at = list.items.indexOf(gap);
      if (at < 0) return;
      const instead = filled(gap, page, list.idOf);
      list.items.splice(at, 1, ...instead);
      if (list.above + at < this.view.top) this.view.shift(instead.length - 1);
      const first = instead[0];
      if (first !== undefined) replaced(first);
    });
  }
}
