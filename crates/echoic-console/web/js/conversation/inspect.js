/**
 * What bytes mean as numbers, times and addresses.
 * @module
 */
import { hexPairs } from "../bytes.js";
import { count } from "../format.js";
import { decodeAt } from "./views.js";

/** Digits shown of a long selection. */
const HEX_SHOWN = 16;
/** Characters shown of a selection. */
const CHARS_SHOWN = 4;

/** @param {bigint | number} value */
const number = (value) => (typeof value === "bigint" ? value.toLocaleString("en") : count(value));

/**
 * Reads a variable-length number (LEB128, as in protobuf). Null if it does not end within ten bytes.
 * @param {Uint8Array} bytes @param {number} at @returns {bigint | null}
 */
export function varint(bytes, at) {
  let value = 0n;
  for (let i = 0; i < 10 && at + i < bytes.length; i++) {
    const byte = bytes[at + i] ?? 0;
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) return value;
  }
  return null;
}

/** @param {number} seconds */
function unixTime(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").replace(/\.000Z$/, "Z");
}

/** Code points from `at`, at most a few. @param {Uint8Array} bytes @param {number} at @param {number} to */
function codePoints(bytes, at, to) {
  const points = [];
  let end = at;
  while (end < Math.max(to, at + 1) && points.length <= CHARS_SHOWN) {
    const char = decodeAt(bytes, end);
    if (!char) return points.length > 0 ? `${points.join(" ")}, then not valid` : "not valid";
    points.push(`U+${char.code.toString(16).toUpperCase().padStart(4, "0")}`);
    end += char.length;
  }
  return points.length > CHARS_SHOWN ? `${points.slice(0, CHARS_SHOWN).join(" ")} …` : points.join(" ");
}

/**
 * Returns what the bytes from `from` are, as pairs of name and value. Numbers begin at `from`, whatever is selected.
 * @param {Uint8Array} bytes @param {number} from @param {number} to end of the selection
 * @returns {[string, string][]}
 */
export function inspect(bytes, from, to) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const left = bytes.length - from;
  const length = to - from;
  const shown = bytes.subarray(from, Math.min(to, from + HEX_SHOWN));
  const more = length > HEX_SHOWN ? " …" : "";
  /** @type {[string, string][]} */
  const rows = [
    ["length", number(length)],
    ["hex", hexPairs(shown) + more],
  ];
  rows.push(["u8", number(view.getUint8(from))]);
  if (left >= 2) rows.push(["u16 BE", number(view.getUint16(from))], ["u16 LE", number(view.getUint16(from, true))]);
  if (left >= 4) rows.push(["u32 BE", number(view.getUint32(from))], ["u32 LE", number(view.getUint32(from, true))]);
  if (left >= 8) rows.push(["u64 BE", number(view.getBigUint64(from))], ["u64 LE", number(view.getBigUint64(from, true))]);
  const variable = varint(bytes, from);
  rows.push(["varint", variable === null ? "not valid" : number(variable)], ["UTF-8", codePoints(bytes, from, to)]);
  if (left >= 4) {
    rows.push(["IPv4", Array.from(bytes.subarray(from, from + 4)).join(".")]);
    rows.push(["Unix time BE", unixTime(view.getUint32(from))]);
    rows.push(["Unix time LE", unixTime(view.getUint32(from, true))]);
  }
  return rows;
}
