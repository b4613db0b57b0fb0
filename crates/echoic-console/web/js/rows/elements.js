/**
 * The elements of the rows in view. One whose row has left the view is filled with a row that enters it: making elements anew costs
 * a frame of a fast scroll more than all else.
 * @module
 */
import { el, fill } from "../dom.js";
import { isGap } from "./items.js";
import { gapCell } from "./parts.js";

/** Most elements kept for later: the window grows again. */
const SPARE = 100;

/** @typedef {import("./items.js").Gap} Gap */
/** An element, `role=row`, that shows one row after another. @template T @typedef {{node: HTMLElement, show: (row: T) => void}} RowView */
/**
 * An element at its place, with the item in it; `item` is null if that has changed. `view` is null for a gap.
 * @template T
 * @typedef {{node: HTMLElement, view: RowView<T> | null, item: T | Gap | null, y: number, index: number}} Drawn
 */

/** @template T */
export class RowElements {
  /**
   * @param {HTMLElement} body what holds the rows
   * @param {string} one word for one row
   * @param {() => RowView<T>} create
   * @param {(gap: Gap) => void} loadGap
   */
  constructor(body, one, create, loadGap) {
    this.body = body;
    this.one = one;
    this.create = create;
    this.loadGap = loadGap;
    /** @type {Map<number, Drawn<T>>} */
    this.drawn = new Map();
    /** Elements without a row; those whose row has just left still lie in the page. @type {RowView<T>[]} */
    this.free = [];
  }

  /** @param {number} key */
  has(key) {
    return this.drawn.has(key);
  }

  /** Has a row filled in again when it is drawn next. @param {number} key */
  spoil(key) {
    const drawn = this.drawn.get(key);
    if (drawn) drawn.item = null;
  }

  /** Gives up the elements of rows that have left the view. @param {Set<number>} stay keys of the others */
  leave(stay) {
    for (const [key, { node, view }] of this.drawn) {
      if (stay.has(key)) continue;
      this.drawn.delete(key);
      if (view && !isHeld(node)) this.free.push(view);
      else node.remove();
    }
  }

  /**
   * Puts a row or a gap at its place.
   * @param {number} key @param {T | Gap} item
   * @param {{y: number, index: number, current: boolean, flash: boolean}} place `y` in px; `index` from the newest row
   */
  place(key, item, { y, index, current, flash }) {
    const drawn = this.drawn.get(key) ?? this.#enter(key, item);
    if (drawn.item !== item) this.#fill(drawn, item);
    const { node } = drawn;
    const at = Math.round(y);
    // Not by a custom property: a change of one has the browser compute the styles of all that is in the row, at ten times the cost.
    if (at !== drawn.y) node.style.setProperty("transform", `translateY(${at}px)`);
    drawn.y = at;
    if (index !== drawn.index) node.setAttribute("aria-rowindex", String(index + 2));
    drawn.index = index;
    if (node.classList.contains("focus") !== current) node.classList.toggle("focus", current);
    if (flash) {
      node.classList.add("new", "run");
      // An animation begins anew with its element.
      this.body.append(node);
    }
  }

  /** Takes the elements without a row out of the page. */
  settle() {
    for (const { node } of this.free) if (node.parentNode) node.remove();
    this.free.splice(SPARE);
  }

  /** @param {number} key @param {T | Gap} item */
  #enter(key, item) {
    const view = isGap(item) ? null : (this.free.pop() ?? this.create());
    const node = view ? view.node : el("div", { class: "gap", role: "row" });
    node.id = `${this.one}-${key < 0 ? `gap${-key}` : key}`;
    node.dataset.key = String(key);
    node.classList.remove("new", "run");
    if (!node.parentNode) this.body.append(node);
    /** @type {Drawn<T>} */
    const drawn = { node, view, item: null, y: Number.NaN, index: -1 };
    this.drawn.set(key, drawn);
    return drawn;
  }

  /** @param {Drawn<T>} drawn @param {T | Gap} item */
  #fill(drawn, item) {
    if (!isGap(item)) drawn.view?.show(item);
    else fill(drawn.node, gapCell(item, this.one, () => this.loadGap(item)));
    drawn.item = item;
  }
}

/** Whether the reader has the focus in an element, or has selected text of it: with another row in it, both would be of that one. @param {HTMLElement} node */
function isHeld(node) {
  if (node.contains(document.activeElement)) return true;
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && selection.containsNode(node, true);
}
