/**
 * Views of the bytes of a message: text with signs, escaped text, and hex. Each view can tell which bytes stand at a place of its
 * text, and where a byte stands, so that a selection in one view is the same bytes in every other.
 * @module
 */
import { isHidden, signOf } from "../bytes.js";
import { el } from "../dom.js";

/** A character of a view, or a sign: its text, and the bytes it stands for. @typedef {{text: string, sign: boolean, from: number, to: number}} Cell */
/**
 * @typedef {object} View
 * @property {HTMLElement} node
 * @property {number} line bytes that the keys up and down move over
 * @property {(at: number) => {from: number, to: number} | null} bytesAt the bytes at a place of the text
 * @property {(from: number, to: number) => [number, number][]} places where bytes stand in the text
 */

/**
 * Decodes one character of UTF-8. Returns null if the bytes there are none.
 * @param {Uint8Array} bytes @param {number} at @returns {{code: number, length: number} | null}
 */
export function decodeAt(bytes, at) {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return { code: first, length: 1 };
  const length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + length > bytes.length) return null;
  let code = first & (0xff >> (length + 1));
  for (let i = 1; i < length; i++) {
    const next = bytes[at + i] ?? 0;
    if (next >> 6 !== 2) return null;
    code = code * 64 + (next & 0x3f);
  }
  const least = [0, 0, 0x80, 0x800, 0x10000][length] ?? 0;
  if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return null;
  return { code, length };
}

/** @param {number} byte */
const hexByte = (byte) => byte.toString(16).padStart(2, "0");

/**
 * Text as people read it: hidden characters become signs, a line break its sign and a new line.
 * @param {Uint8Array} bytes @param {boolean} spaces whether spaces become signs too
 * @returns {Cell[]}
 */
export function textCells(bytes, spaces) {
  /** @type {Cell[]} */
  const cells = [];
  for (let at = 0; at < bytes.length; ) {
    const char = decodeAt(bytes, at);
    const to = at + (char?.length ?? 1);
    if (!char) cells.push({ text: `\\x${hexByte(bytes[at] ?? 0)}`, sign: true, from: at, to });
    else {
      const c = String.fromCodePoint(char.code);
      const ends = c === "\n" && to < bytes.length;
      if (c === " " && spaces) cells.push({ text: "·", sign: true, from: at, to });
      else if (isHidden(c)) cells.push({ text: signOf(c) + (ends ? "\n" : ""), sign: true, from: at, to });
      else cells.push({ text: c, sign: false, from: at, to });
    }
    at = to;
  }
  return cells;
}

/** @type {Record<string, string>} */
const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\" };

/** Text as a literal of a program: `hello\n`, `\xff`. @param {Uint8Array} bytes @returns {Cell[]} */
export function escapedCells(bytes) {
  /** @type {Cell[]} */
  const cells = [];
  for (let at = 0; at < bytes.length; ) {
    const char = decodeAt(bytes, at);
    const to = at + (char?.length ?? 1);
    const c = char ? String.fromCodePoint(char.code) : "";
    const escaped = !char ? `\\x${hexByte(bytes[at] ?? 0)}` : (ESCAPES[c] ?? (isHidden(c) ? signOf(c) : ""));
    cells.push({ text: escaped || c, sign: escaped !== "", from: at, to });
    at = to;
  }
  return cells;
}

/** @param {Cell[]} cells @param {string} name for screen readers @returns {View} */
export function cellView(cells, name) {
  const node = el("pre", { class: "bytes", tabindex: -1, "aria-label": name, role: "group" });
  /** Place of each cell in the text. @type {number[]} */
  const starts = [];
  let length = 0;
  let run = "";
  let sign = false;
  const flush = () => {
    if (run) node.append(sign ? el("i", {}, run) : run);
    run = "";
  };
  for (const cell of cells) {
    if (cell.sign !== sign) flush();
    sign = cell.sign;
    run += cell.text;
    starts.push(length);
    length += cell.text.length;
  }
  flush();
  /** @param {number} at */
  const cellAt = (at) => cells[lastNotAfter(starts, at)];
  return {
    node,
    line: 16,
    bytesAt: (at) => cellAt(Math.min(at, length - 1)) ?? null,
    places: (from, to) => {
      const first = cells.findIndex((cell) => cell.to > from);
      const last = cells.findLastIndex((cell) => cell.from < to);
      if (first < 0 || last < first) return [];
      return [[starts[first] ?? 0, (starts[last] ?? 0) + (cells[last]?.text.replace(/\n$/, "").length ?? 0)]];
    },
  };
}

/** Index of the last number that is not greater. @param {number[]} sorted @param {number} value */
function lastNotAfter(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) <= value) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * A hex dump: offset, digits, characters of ASCII.
 * @param {Uint8Array} bytes @param {number} width bytes a line @param {string} name for screen readers
 * @returns {View}
 */
export function hexView(bytes, width, name) {
  const node = el("pre", { class: "bytes hex", tabindex: -1, "aria-label": name, role: "group" });
  const digits = bytes.length > 0x10000 ? 8 : 4;
  const start = digits + 2;
  const chars = start + width * 3 + 1;
  for (let at = 0; at < bytes.length; at += width) {
    const part = bytes.subarray(at, at + width);
    const hex = Array.from(part, hexByte).join(" ").padEnd(width * 3 - 1);
    const ascii = Array.from(part, (b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : "·")).join("");
    const end = at + width < bytes.length ? "\n" : "";
    node.append(el("i", {}, at.toString(16).padStart(digits, "0")), `  ${hex}  ${ascii}${end}`);
  }
  const stride = chars + width + 1;
  return {
    node,
    line: width,
    bytesAt: (at) => {
      const row = Math.floor(at / stride);
      const column = at % stride;
      if (column < start) return null;
      const byte = row * width + Math.min(width - 1, column >= chars ? column - chars : Math.floor((column - start) / 3));
      return byte < bytes.length ? { from: byte, to: byte + 1 } : null;
    },
    places: (from, to) => {
      /** @type {[number, number][]} */
      const places = [];
      for (let row = Math.floor(from / width); row * width < to; row++) {
        const first = Math.max(from, row * width) - row * width;
        const last = Math.min(to, (row + 1) * width) - row * width;
        const base = row * stride;
        places.push([base + start + first * 3, base + start + last * 3 - 1], [base + chars + first, base + chars + last]);
      }
      return places;
    },
  };
}

/** Creates a range over a part of the text of a node. @param {Node} node @param {number} from @param {number} to */
export function textRange(node, from, to) {
  const range = document.createRange();
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  let at = 0;
  let begun = false;
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const length = text.textContent?.length ?? 0;
    if (!begun && from < at + length) {
      range.setStart(text, from - at);
      begun = true;
    }
    if (begun && to <= at + length) {
      range.setEnd(text, to - at);
      return range;
    }
    at += length;
  }
  return begun ? range : null;
}

/** Place in the text of `root` of a point in it. @param {Node} root @param {Node} node @param {number} offset */
export function placeOf(root, node, offset) {
  const range = document.createRange();
  range.setStart(root, 0);
  range.setEnd(node, offset);
  return range.toString().length;
}
