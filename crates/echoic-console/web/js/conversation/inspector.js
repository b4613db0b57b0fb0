/**
 * The bytes under the cursor: those selected, or the one at the caret, marked in every view of their message.
 * @module
 */
import { el, fill } from "../dom.js";
import { count } from "../format.js";
import { boxOf } from "./box.js";
import { inspect } from "./inspect.js";
import { placeOf, textRange } from "./views.js";

/** @typedef {import("./box.js").Box} Box */

export class Inspector {
  constructor() {
    this.rows = el("dl", { class: "kv" });
    this.hint = el("p", { class: "dim" }, "Click into a message, or select bytes. With the keyboard: Enter, then arrows; Shift extends.");
    this.node = el("section", { "aria-label": "Bytes under the cursor" }, el("h3", {}, "Bytes under the cursor"), this.hint, this.rows);
    /** @type {Box | null} */
    this.box = null;
    this.from = 0;
    this.to = 0;
    this.onSelection = () => this.#follow();
    document.addEventListener("selectionchange", this.onSelection);
  }

  destroy() {
    document.removeEventListener("selectionchange", this.onSelection);
    unmark();
  }

  /** Takes the bytes from the selection of the page. */
  #follow() {
    const selection = getSelection();
    if (!selection || selection.rangeCount === 0) return;
    const range = selection.getRangeAt(0);
    const box = boxOf(range.startContainer);
    const view = box?.views.find(({ node }) => node.contains(range.startContainer));
    if (!box || !view) return;
    const start = view.bytesAt(placeOf(view.node, range.startContainer, range.startOffset));
    if (!start) return;
    const within = !selection.isCollapsed && view.node.contains(range.endContainer);
    const end = within ? view.bytesAt(placeOf(view.node, range.endContainer, range.endOffset) - 1) : start;
    this.show(box, start.from, Math.max(start.to, end?.to ?? start.to));
  }

  /** Shows bytes of a message. @param {Box} box @param {number} from @param {number} to */
  show(box, from, to) {
    if (box.bytes.length === 0) return;
    this.box = box;
    this.from = Math.max(0, Math.min(from, box.bytes.length - 1));
    this.to = Math.max(this.from + 1, Math.min(to, box.bytes.length));
    const { from: first, to: last } = this;
    const where = last - first === 1 ? count(first) : `${count(first)} to ${count(last - 1)}`;
    /** @type {[string, string][]} */
    const rows = [["where", `#${box.exchange.n} ${box.word}, ${where}`], ...inspect(box.bytes, first, last)];
    fill(this.rows, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    this.hint.hidden = true;
    mark(box, first, last);
  }

  /** Forgets the bytes: their message is no longer drawn. */
  reset() {
    this.box = null;
    this.hint.hidden = false;
    fill(this.rows);
    unmark();
  }

  /**
   * Moves the cursor by key within a message. Returns whether the key was for it.
   * @param {KeyboardEvent} event
   */
  onKey(event) {
    const box = boxOf(/** @type {Node} */ (event.target));
    const view = box?.views.find(({ node }) => node === event.target);
    if (!box || !view || event.ctrlKey || event.metaKey || event.altKey) return false;
    /** @type {Record<string, number>} */
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -view.line, ArrowDown: view.line };
    const step = steps[event.key];
    if (step === undefined) return false;
    if (this.box !== box) this.show(box, 0, 1);
    else if (event.shiftKey) this.show(box, this.from, this.to + step);
    else {
      const from = Math.max(0, Math.min(box.bytes.length - 1, this.from + step));
      this.show(box, from, from + 1);
    }
    return true;
  }
}

/** Marks bytes in all views of their message. @param {Box} box @param {number} from @param {number} to */
function mark(box, from, to) {
  const registry = /** @type {any} */ (CSS).highlights;
  const Highlight = /** @type {any} */ (window).Highlight;
  if (!registry || !Highlight) return;
  const ranges = box.views.flatMap(({ node, places }) => places(from, to).map(([start, end]) => textRange(node, start, end)));
  registry.set("bytes", new Highlight(...ranges.filter((range) => range !== null)));
}

function unmark() {
  /** @type {any} */ (CSS).highlights?.delete("bytes");
}
