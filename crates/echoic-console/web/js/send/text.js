/**
 * What is typed into the Send drawer, as messages: escapes as in `echoic connect --send`, pairs of hexadecimal digits, a counter.
 * @module
 */

/** A mistake in what was typed. */
export class TextError extends Error {}

const SIMPLE = /** @type {Record<string, number>} */ ({ n: 10, r: 13, t: 9, "\\": 92, '"': 34 });
const ESCAPE = /\\(?:([nrt\\"])|x([0-9a-f]{2})|u\{([0-9a-f]{1,6})\})/iy;
/** Framings whose messages end at the end of a line: each line typed is a message. */
const LINES = new Set(["line", "crlf"]);

/** Returns the bytes that escaped text stands for. @param {string} text @returns {Uint8Array} */
export function unescapeText(text) {
  const encoder = new TextEncoder();
  /** @type {number[]} */
  const bytes = [];
  let at = 0;
  while (at < text.length) {
    const next = text.indexOf("\\", at);
    const end = next < 0 ? text.length : next;
    for (const byte of encoder.encode(text.slice(at, end))) bytes.push(byte);
    if (next < 0) break;
    ESCAPE.lastIndex = next;
    const found = ESCAPE.exec(text);
    if (!found) throw new TextError(`${text.slice(next, next + 4)} is no escape: write \\n, \\r, \\t, \\x00, \\u{202e}, or \\\\ for a backslash`);
    bytes.push(...escaped(found, encoder));
    at = ESCAPE.lastIndex;
  }
  return Uint8Array.from(bytes);
}

/** @param {RegExpExecArray} found @param {TextEncoder} encoder @returns {Iterable<number>} */
function escaped([whole, simple, hex, point], encoder) {
  if (simple) return [SIMPLE[simple.toLowerCase()] ?? 0];
  if (hex) return [Number.parseInt(hex, 16)];
  const code = Number.parseInt(point ?? "", 16);
  if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) throw new TextError(`${whole} is no character`);
  return encoder.encode(String.fromCodePoint(code));
}

/** Returns the bytes of pairs of hexadecimal digits: `0d0a`, `0x0d0a`, `0d:0a`, `0d 0a`. @param {string} text @returns {Uint8Array} */
export function parseHex(text) {
  const digits = text.replace(/0x/gi, "").replace(/[\s:,]/g, "");
  const wrong = /[^0-9a-f]/i.exec(digits);
  if (wrong) throw new TextError(`${wrong[0]} is no hexadecimal digit: write pairs of 0 to 9 and a to f`);
  if (digits.length % 2 === 1) throw new TextError("a digit is missing: write two for each byte");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Returns bytes as the API takes them. @param {Uint8Array} bytes @returns {{text: string} | {b64: string}} */
export function bytesJson(bytes) {
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { b64: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
  }
}

/**
 * Returns the messages as typed, before escapes: with frames of lines each line is one.
 * @param {string} text @param {boolean} hex @param {string} frame
 */
export function typedMessages(text, hex, frame) {
  const part = frame.split("/")[0] ?? "";
  return !hex && LINES.has(part) ? text.replace(/\n$/, "").split("\n") : [text];
}

/** Whether text has the counter. @param {string} text */
export const counts = (text) => text.includes("{n}");

/**
 * Returns the messages of a call. Text with a counter goes to the server as it is; with bytes that are not text the page counts.
 * @param {string[]} typed @param {boolean} hex @param {number} times
 * @returns {{messages: ({text: string} | {b64: string})[], repeat?: number, counter?: boolean}}
 */
export function callMessages(typed, hex, times) {
  const counted = !hex && typed.some(counts);
  const read = hex ? parseHex : unescapeText;
  const messages = typed.map((text) => bytesJson(read(text)));
  const repeat = times > 1 ? { repeat: times } : {};
  if (!counted) return { messages, ...repeat };
  if (messages.every((message) => "text" in message)) return { messages, ...repeat, counter: true };
  const all = [];
  for (let n = 1; n <= times * typed.length; n++) {
    all.push(bytesJson(read((typed[(n - 1) % typed.length] ?? "").replaceAll("{n}", String(n)))));
  }
  return { messages: all };
}
