/**
 * Icons: 16 px strokes in the colour of the text. A word stands beside each, so all are hidden from screen readers.
 * @module
 */
import { fill, messageOf, svg } from "./dom.js";

/** Paths of each icon; a circle is `[cx, cy, r]`, a rectangle `[x, y, width, height]`. @type {Record<string, (string | number[])[]>} */
const SHAPES = {
  about: [[8, 8, 6], "M8 7.5v3.5M8 5v.01"],
  alert: ["M8 2 1.5 13.5h13zM8 6.5v3.5M8 12v.01"],
  auto: [[2, 3, 12, 8], "M6 13.5h4"],
  back: ["M10 3 5 8l5 5"],
  bolt: ["M9 1.5 3.5 9H8l-1 5.5L12.5 7H8z"],
  check: ["m3 8.5 3.5 3.5L13 4.5"],
  clock: [[8, 8, 6], "M8 4.5V8l2.5 1.5"],
  cmd: ["m2.5 4.5 3.5 3.5-3.5 3.5M8 12h5.5"],
  conv: ["M2 3.5h8v5H5l-3 2.5z", "M12.5 6.5H14v7l-2.5-2H7"],
  copy: [[5.5, 5.5, 8, 8], "M10.5 5.5v-3h-8v8h3"],
  diff: ["M2 4h5v8H2zM9 4h5v8H9z"],
  dl: ["M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11"],
  down: ["m4 6 4 4 4-4"],
  drain: ["M3 3h10M4.5 6h7M6 9h4M7.5 12h1"],
  explain: ["M2 3h5a1.5 1.5 0 0 1 1 .5A1.5 1.5 0 0 1 9 3h5v9.5H9l-1 1-1-1H2zM8 4v9"],
  half: [[8, 8, 5.5], "M8 2.5a5.5 5.5 0 0 0 0 11z"],
  keys: [[1.5, 4, 13, 8], "M4 6.5v.01M6.7 6.5v.01M9.3 6.5v.01M12 6.5v.01M5 9.5h6"],
  left: ["M14 8H2M6 4 2 8l4 4"],
  live: ["M1.5 8h3l2-5 3 10 2-5h3"],
  lock: [[3.5, 7, 9, 6.5], "M5.5 7V5a2.5 2.5 0 0 1 5 0v2"],
  moon: ["M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z"],
  none: ["M3 8h1M7.5 8h1M12 8h1"],
  note: ["M3 2.5h10v11H3zM5.5 6h5M5.5 8.5h5M5.5 11h3"],
  nums: ["M2.5 13.5v-5M6.2 13.5v-11M9.9 13.5v-7M13.5 13.5v-4"],
  open: [[8, 8, 5.5]],
  pause: ["M5.5 3.5v9M10.5 3.5v9"],
  play: ["M5 3v10l8-5z"],
  plus: ["M8 3v10M3 8h10"],
  plug: ["M2 14l3-3M5 7l4 4-1.5 1.5a2.8 2.8 0 0 1-4-4zM14 2l-3 3M9 5l3 3M7 5.5 10.5 9"],
  replay: ["M13 8a5 5 0 1 1-1.5-3.5L13 6M13 2.5V6H9.5"],
  right: ["M2 8h12M10 4l4 4-4 4"],
  search: [[7, 7, 4.5], "m10.5 10.5 3.5 3.5"],
  send: ["M14 2 7 9M14 2 9.5 14 7 9 2 6.5z"],
  shut: [[8, 8, 5.5], "M5.5 8h5"],
  sun: [[8, 8, 3], "M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1"],
  tag: ["M2 2h5.5L14 8.5 8.5 14 2 7.5zM5 5v.01"],
  trash: ["M3 4.5h10M6 4.5V2.5h4v2M4.5 4.5l.5 9h6l.5-9"],
  unsent: ["M14 8h-4M7 8H6M3 8H2M6 4 2 8l4 4"],
  up: ["M8 13V3M4 7l4-4 4 4"],
  x: ["m4 4 8 8M12 4l-8 8"],
};

/** @type {Map<string, SVGElement>} */
const drawn = new Map();

/** @param {string | number[]} shape */
function draw(shape) {
  if (typeof shape === "string") return svg("path", { d: shape });
  if (shape.length === 3) return svg("circle", { cx: shape[0], cy: shape[1], r: shape[2] });
  return svg("rect", { x: shape[0], y: shape[1], width: shape[2], height: shape[3], rx: 1 });
}

/**
 * Creates an icon.
 * @param {string} name @param {string} [kind] further classes: `req` or `rep`
 * @returns {SVGElement}
 */
export function icon(name, kind = "") {
  let model = drawn.get(name);
  if (!model) {
    const shapes = SHAPES[name];
    if (!shapes) throw new Error(`there is no icon ${name}`);
    model = svg("svg", { class: "i", viewBox: "0 0 16 16", "aria-hidden": "true" }, ...shapes.map(draw));
    if (name === "half") model.lastElementChild?.setAttribute("fill", "currentColor");
    drawn.set(name, model);
  }
  const copy = /** @type {SVGElement} */ (model.cloneNode(true));
  if (kind) copy.setAttribute("class", `i ${kind}`);
  return copy;
}

/** Shows what went wrong. @param {HTMLElement} node @param {unknown} error */
export function showError(node, error) {
  fill(node, icon("alert"), messageOf(error));
  node.hidden = false;
}

/** Replaces each `<i data-icon="…">` below `root`: how index.html names icons. @param {ParentNode} root */
export function placeIcons(root) {
  for (const slot of root.querySelectorAll("[data-icon]")) {
    slot.replaceWith(icon(/** @type {HTMLElement} */ (slot).dataset.icon ?? ""));
  }
}
