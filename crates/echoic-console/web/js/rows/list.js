/**
 * The rows of a list that are loaded, and what is known of those above and below them.
 *
 * The rows loaded are contiguous, from the newest to the oldest; how many there are above and below is known at the ends and
 * estimated from the ids in between.
 * @module
 */
import { bottomKey, gapOf, isGap, ownKey, rowsOf, topKey } from "./items.js";

/** Most rows in memory; beyond, those farthest from the reader are dropped. */
export const MAX_ROWS = 800;
/** A page is loaded when fewer rows than this are left in a direction. */
export const AHEAD = 40;

/** @typedef {import("./items.js").Gap} Gap */

/** @template T */
export class RowList {
  /** @param {(row: T) => number} idOf */
  constructor(idOf) {
    this.idOf = idOf;
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
    this.oldestKey = 0;
    /** Rows for each id between newest and oldest. @type {number | undefined} */
    this.density = undefined;
  }

  /** Begins anew from the newest row. @param {T[]} rows @param {boolean} end */
  start(rows, end) {
    this.replace(rows, end);
    this.above = 0;
    this.unseen = 0;
    this.newest = this.firstKey() ?? 0;
  }

  /** Has these rows instead of those loaded and held back. @param {T[]} rows @param {boolean} end whether nothing is below them */
  replace(rows, end) {
    this.items = rows;
    this.held = [];
    this.below = 0;
    if (!end) this.estimateBelow();
  }

  /** Number of rows in the list, loaded or not. */
  get total() {
    return this.above + this.items.length + this.below;
  }

  /** Number of rows loaded, held back ones and gaps included. */
  get length() {
    return this.items.length + this.held.length;
  }

  /** A key of an item that no other has. @param {T | Gap} item */
  keyOf(item) {
    return ownKey(item, this.idOf);
  }

  lastKey() {
    const item = this.items.at(-1);
    return item === undefined ? null : bottomKey(item, this.idOf);
  }

  firstKey() {
    const item = this.items[0];
    return item === undefined ? null : topKey(item, this.idOf);
  }

  /** The row with this key, loaded or held back. @param {number} key @returns {T | undefined} */
  find(key) {
    const isIt = (/** @type {T | Gap} */ item) => !isGap(item) && this.idOf(item) === key;
    return /** @type {T | undefined} */ (this.items.find(isIt) ?? this.held.find(isIt));
  }

  /** Position of a row or gap among those loaded; -1 if it is not. @param {number | null} key */
  indexOf(key) {
    return key === null ? -1 : this.items.findIndex((item) => this.keyOf(item) === key);
  }

  /** Estimates from the ids how many rows are below. */
  estimateBelow() {
    const last = this.lastKey();
    const first = this.firstKey() ?? 0;
    if (last === null || this.oldestKey === 0 || last <= this.oldestKey) {
      this.below = last !== null && this.oldestKey > 0 && last <= this.oldestKey ? 0 : Math.max(this.below, AHEAD);
      return;
    }
    this.density ??= Math.min(1, this.items.length / Math.max(1, first - last + 1));
    this.below = Math.max(1, Math.round((last - this.oldestKey) * this.density));
  }

  /** Takes newer rows, newest first, and holds them back. @param {(T | Gap)[]} rows of which there is at least one */
  hold(rows) {
    this.newest = Math.max(this.newest, topKey(/** @type {T | Gap} */ (rows[0]), this.idOf));
    this.unseen += rowsOf(rows);
    // With rows between these and the ones loaded, the list is loaded when the reader goes there.
    if (this.above === 0) this.held.unshift(...rows);
  }

  /** Shows the rows held back; returns their keys. @returns {number[]} */
  release() {
    const fresh = this.held;
    if (fresh.length === 0) return [];
    this.held = [];
    this.unseen = 0;
    this.items.unshift(...fresh);
    this.trim("below");
    return fresh.map((item) => this.keyOf(item));
  }

  /** Turns the oldest rows held back into a gap, if there are many: the bar may tell 100,000 new ones, the page does not hold them. */
  condense() {
    if (this.held.length <= MAX_ROWS) return;
    const dropped = this.held.splice(MAX_ROWS / 2);
    this.held.push(gapOf(dropped, this.idOf));
  }

  /** Drops rows from one end, if there are too many. @param {"above" | "below"} where */
  trim(where) {
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

  /**
   * Puts a row at its place among those loaded or held back; beyond them it is loaded when the reader goes there.
   * @param {T} row @returns {number} its position among those loaded; -1 if it is not there
   */
  insert(row) {
    const key = this.idOf(row);
    const at = this.items.findIndex((item) => topKey(item, this.idOf) < key);
    if (this.find(key) || (at < 0 && this.below > 0) || (at === 0 && this.above > 0)) return -1;
    // A gap loads its rows when the reader asks for them.
    if ([...this.items, ...this.held].some((item) => isGap(item) && item.from <= key && key <= item.to)) return -1;
    // Newer than all that is loaded: the reader has not seen it.
    if (this.held.length > 0 && key > (this.firstKey() ?? 0)) {
      const within = this.held.findIndex((item) => topKey(item, this.idOf) < key);
      this.held.splice(within < 0 ? this.held.length : within, 0, row);
      this.unseen++;
      return -1;
    }
    const to = at < 0 ? this.items.length : at;
    this.items.splice(to, 0, row);
    return to;
  }
}
