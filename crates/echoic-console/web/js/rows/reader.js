/**
 * What the reader does with a list: scroll, resize, keys and clicks.
 * @module
 */
import { el } from "../dom.js";

/** @typedef {import("../rows.js").Rows<any>} Rows */

/** Follows the reader until `signal` says that the list is gone. @param {Rows} rows @param {AbortSignal} signal */
export function listen(rows, signal) {
  const { scroller, grid } = rows.options;
  scroller.addEventListener("scroll", () => onScroll(rows), { passive: true, signal });
  grid.addEventListener("keydown", (event) => onKey(rows, event), { signal });
  rows.body.addEventListener("click", (event) => onClick(rows, event), { signal });
  const observer = new ResizeObserver(() => {
    measure(rows);
    rows.draw();
  });
  observer.observe(scroller);
  signal.addEventListener("abort", () => observer.disconnect());
}

/** @param {Rows} rows */
function onScroll(rows) {
  if (!rows.view.follow()) return;
  if (rows.atEdge()) rows.release(false);
  rows.draw();
}

/** Takes the height of a row from the styles: it differs with the width of the page. A hidden list has none. @param {Rows} rows */
export function measure(rows) {
  const { body, view } = rows;
  const probe = el("div", { class: "row probe" });
  body.appendChild(probe);
  const { height } = probe.getBoundingClientRect();
  probe.remove();
  view.measured = height > 0;
  if (height > 0 && height !== view.rowHeight) {
    view.rowHeight = height;
    if (view.top > 0) view.scrollTo();
  }
}

/** @param {Rows} rows @param {KeyboardEvent} event */
function onKey(rows, event) {
  if (event.target !== rows.options.grid || event.ctrlKey || event.metaKey || event.altKey) return;
  const page = Math.max(1, Math.floor(rows.view.rows()) - 2);
  /** @type {Record<string, () => void>} */
  const does = {
    ArrowDown: () => rows.move(1),
    ArrowUp: () => rows.move(-1),
    PageDown: () => rows.move(page),
    PageUp: () => rows.move(-page),
    Home: () => rows.toNewest(),
    Enter: () => rows.openCurrent(),
  };
  const run = does[event.key];
  if (!run) return;
  run();
  event.preventDefault();
}

/** @param {Rows} rows @param {MouseEvent} event */
function onClick(rows, event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const row = /** @type {HTMLElement | null} */ (target.closest("[data-key]"));
  const link = target.closest("a");
  if (!row || target.closest("button, input") || (link && (event.ctrlKey || event.metaKey || event.shiftKey))) return;
  if (link) event.preventDefault();
  rows.currentKey = Number(row.dataset.key);
  rows.draw();
  const selection = getSelection();
  if (selection && !selection.isCollapsed) return;
  rows.openCurrent();
}
