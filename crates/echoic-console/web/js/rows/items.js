/**
 * The items of a list, newest first: rows, and gaps where rows are recorded and not shown.
 * @module
 */

/** Rows that are recorded and not shown: the ids `from` to `to`. @typedef {{gap: true, from: number, to: number, n: number}} Gap */

/** @param {any} item @returns {item is Gap} */
export function isGap(item) {
  return item.gap === true;
}

/** The greatest key of an item. @template T @param {T | Gap} item @param {(row: T) => number} keyOf */
export function topKey(item, keyOf) {
  return isGap(item) ? item.to : keyOf(item);
}

/** The smallest key of an item. @template T @param {T | Gap} item @param {(row: T) => number} keyOf */
export function bottomKey(item, keyOf) {
  return isGap(item) ? item.from : keyOf(item);
}

/** A key of an item that no other has. @template T @param {T | Gap} item @param {(row: T) => number} keyOf */
export function ownKey(item, keyOf) {
  return isGap(item) ? -item.from : keyOf(item);
}

/** Number of rows. @param {unknown[]} items */
export function rowsOf(items) {
  return items.reduce((/** @type {number} */ sum, item) => sum + (isGap(item) ? item.n : 1), 0);
}

/** One gap instead of these items, of which there is at least one. @template T @param {(T | Gap)[]} items @param {(row: T) => number} keyOf @returns {Gap} */
export function gapOf(items, keyOf) {
  const first = /** @type {T | Gap} */ (items[0]);
  return { gap: true, from: Math.min(...items.map((item) => bottomKey(item, keyOf))), to: topKey(first, keyOf), n: rowsOf(items) };
}

/**
 * The items that take the place of a gap, of which the newest rows were loaded.
 * @template T @param {Gap} gap @param {{rows: T[], end: boolean}} page the newest rows from its end @param {(row: T) => number} keyOf
 * @returns {(T | Gap)[]}
 */
export function filled(gap, page, keyOf) {
  const rows = page.rows.filter((row) => keyOf(row) >= gap.from);
  const last = rows.at(-1);
  const rest = last === undefined ? 0 : keyOf(last) - gap.from;
  if (rest === 0 || rows.length < page.rows.length || page.end) return rows;
  return [...rows, { gap: true, from: gap.from, to: gap.from + rest - 1, n: Math.max(1, gap.n - rows.length) }];
}
