/**
 * What a list shows beside its rows: the bar of new rows, gaps, and flashes.
 * @module
 */
import { el, fill } from "../dom.js";
import { counted } from "../format.js";
import { icon } from "../icons.js";

/** Most rows that flash in a second. */
const FLASHES = 8;

/** Where every row flashes, none does: tells whether so few rows come that a flash says something. */
export class Flashes {
  constructor() {
    this.n = 0;
    this.since = 0;
  }

  /** @param {number} rows */
  allow(rows) {
    const now = performance.now();
    if (now - this.since > 1000) {
      this.since = now;
      this.n = 0;
    }
    this.n += rows;
    return this.n <= FLASHES;
  }
}

/** The bar that tells how many new rows there are, and goes to them. */
export class NewBar {
  /** @param {() => void} toNewest */
  constructor(toNewest) {
    this.button = el("button", { type: "button", onclick: toNewest });
    this.node = el("div", { class: "newbar", role: "row", hidden: true }, el("span", { role: "gridcell" }, this.button));
    this.shown = 0;
  }

  /** @param {number} n */
  show(n) {
    this.node.hidden = n === 0;
    if (n === this.shown) return;
    this.shown = n;
    fill(this.button);
    this.button.append(icon("up"), `${n.toLocaleString("en")} new`, el("kbd", {}, "G"));
  }
}

/** What a gap tells. @param {import("./items.js").Gap} gap @param {string} one word for one row @param {() => void} load */
export function gapCell(gap, one, load) {
  const words = `${counted(gap.n, one)} came faster than this page reads. All are recorded.`;
  const button = el("button", { class: "link", type: "button", tabindex: -1, onclick: load }, "Load them");
  return el("span", { role: "gridcell" }, icon("alert"), el("span", {}, words), button);
}
