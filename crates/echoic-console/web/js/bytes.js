/**
 * Bytes of peers: decoded, escaped, and as hexadecimal digits. Nothing here becomes markup.
 * @module
 */
import { el, setData } from "./dom.js";

/** @typedef {import("./types.js").Bytes} Bytes */
/** A part of escaped text: plain characters, or a sign that stands for a byte or a hidden character. @typedef {{text: string, sign: boolean}} Piece */

/**
 * Characters that are invisible, or that change how others are shown: the categories Cc, Cf, Zl and Zp, noncharacters and fillers.
 * Variation selectors are part of common emoji and stay.
 */
const HIDDEN =
  /\u034f|[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Noncharacter_Code_Point}\u115f\u1160\u3164\uffa0\u17b4\u17b5\u180e\u{e0000}-\u{e00ff}\u{e01f0}-\u{e0fff}]|[\u180b-\u180d\u180f]|[\u{e0100}-\u{e01ef}]/u;

/** Hidden characters in a row; as a group, so that a division of text keeps them. */
const HIDDEN_RUN = new RegExp(`((?:${HIDDEN.source})+)`, "u");

/** Decodes base64. @param {string} text @returns {Uint8Array} */
export function fromBase64(text) {
  const binary = atob(text);
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}

/** Returns the bytes of a message of the API. @param {Bytes} bytes @returns {Uint8Array} */
export function toArray(bytes) {
  if (bytes.text !== undefined) return new TextEncoder().encode(bytes.text);
  return bytes.b64 === undefined ? new Uint8Array() : fromBase64(bytes.b64);
}

/** Whether a character is invisible, or changes how others are shown. @param {string} c */
export function isHidden(c) {
  return HIDDEN.test(c);
}

/** Returns the sign for a hidden character. @param {string} c */
export function signOf(c) {
  const code = c.codePointAt(0) ?? 0;
  if (c === "\n") return "⏎";
  if (c === "\t") return "⇥";
  if (c === "\r") return "\\r";
  if (code < 0x80) return `\\x${code.toString(16).padStart(2, "0")}`;
  return code <= 0xffff ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`;
}

/**
 * Divides text into plain parts and signs.
 * @param {string} text @param {number} [limit] most characters that are looked at
 * @returns {Piece[]}
 */
export function escapeText(text, limit = Number.POSITIVE_INFINITY) {
  const looked = text.length > limit ? Array.from(text.slice(0, 2 * limit)).slice(0, limit).join("") : text;
  return looked.split(HIDDEN_RUN).flatMap((part, at) => {
    if (part === "") return [];
    return [at % 2 === 0 ? { text: part, sign: false } : { text: Array.from(part, signOf).join(""), sign: true }];
  });
}

/** Returns hexadecimal digits in pairs. @param {Uint8Array} bytes @param {number} [limit] */
export function hexPairs(bytes, limit = bytes.length) {
  return Array.from(bytes.subarray(0, limit), (b) => b.toString(16).padStart(2, "0")).join(" ");
}

/**
 * Returns lines of a hex dump: offset, digits, and the characters of ASCII.
 * @param {Uint8Array} bytes @param {number} [width] bytes a line @param {number} [from] offset of the first
 * @returns {{offset: number, hex: string, text: string}[]}
 */
export function hexLines(bytes, width = 16, from = 0) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += width) {
    const part = bytes.subarray(at, at + width);
    const text = Array.from(part, (b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : "·")).join("");
    lines.push({ offset: from + at, hex: hexPairs(part), text });
  }
  return lines;
}

/** Creates the nodes of escaped pieces. @param {Piece[]} pieces @returns {Node[]} */
export function pieceNodes(pieces) {
  return pieces.map((piece) => (piece.sign ? el("i", {}, piece.text) : document.createTextNode(piece.text)));
}

/** Creates the nodes of text that people wrote, such as a note: line breaks stay, hidden characters become signs. @param {string} text @returns {Node[]} */
export function writtenNodes(text) {
  return text.split("\n").flatMap((line, at) => [...(at > 0 ? [document.createTextNode("\n")] : []), ...pieceNodes(escapeText(line))]);
}

/** Returns text with signs for its hidden characters. @param {string} text */
export function visible(text) {
  return escapeText(text).map((piece) => piece.text).join("");
}

/** Makes the children of a line those that `pieceNodes` would create; what is there is filled anew. @param {Element} line @param {Piece[]} pieces */
function setPieces(line, pieces) {
  for (const [at, { text, sign }] of pieces.entries()) {
    const there = line.childNodes[at];
    if (there && sign === there instanceof Element) setData(/** @type {Text} */ (sign ? there.firstChild : there), text);
    else line.insertBefore(sign ? el("i", {}, text) : document.createTextNode(text), there ?? null);
  }
  while (line.childNodes.length > pieces.length) line.lastChild?.remove();
}

/**
 * Shows a preview in one line: text with signs, or the first bytes in hex if they are not text.
 * @param {Element} line @param {Bytes} bytes @param {number} [chars] most characters
 */
export function showPreview(line, bytes, chars = 160) {
  /** @type {Piece[]} */
  let pieces;
  let shown;
  if (bytes.text !== undefined) {
    pieces = escapeText(bytes.text, chars);
    shown = bytes.text.length <= chars;
  } else {
    const array = toArray(bytes);
    pieces = [{ text: hexPairs(array, Math.ceil(chars / 3)), sign: false }];
    shown = array.length * 3 <= chars;
  }
  if (bytes.cut || !shown) pieces.push({ text: "…", sign: true });
  setPieces(line, pieces);
}

/** Creates a preview in one line. @param {Bytes} bytes @returns {HTMLElement} */
export function preview(bytes) {
  const line = el("span", { class: "bytes" });
  showPreview(line, bytes);
  return line;
}
