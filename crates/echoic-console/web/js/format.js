/**
 * Figures, times and durations as people read them.
 * @module
 */

const NUMBER = new Intl.NumberFormat("en");

/** @param {number} n */
const two = (n) => String(n).padStart(2, "0");

/** Returns a count with thousands separated: `48,112`. @param {number} n */
export function count(n) {
  return NUMBER.format(n);
}

/** Returns a count with its word: `1 exchange`, `2 exchanges`. @param {number} n @param {string} one @param {string} [many] */
export function counted(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** Returns the clock time of microseconds since 1970: `12:04:07.113`. @param {number} us */
export function clock(us) {
  const date = new Date(us / 1000);
  const ms = String(Math.floor(us / 1000) % 1000).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}

/** Returns date and time: `2026-08-01 12:04:07.113`. @param {number} us */
export function dateTime(us) {
  const date = new Date(us / 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(us)}`;
}

/** @param {number} value */
const digits = (value) => String(value < 9.95 ? Number(value.toFixed(1)) : Math.round(value));

/** Divides a duration in nanoseconds into number and unit. @param {number} ns @returns {[string, string]} */
export function durationParts(ns) {
  if (ns === 0) return ["0", "ms"];
  if (ns < 1e3) return [String(Math.round(ns)), "ns"];
  if (ns < 999.5e3) return [digits(ns / 1e3), "µs"];
  if (ns < 999.5e6) return [digits(ns / 1e6), "ms"];
  if (ns < 99.5e9) return [digits(ns / 1e9), "s"];
  if (ns < 3600e9 * 2) return [String(Math.round(ns / 60e9)), "min"];
  if (ns < 86400e9 * 2) return [String(Math.round(ns / 3600e9)), "h"];
  return [String(Math.round(ns / 86400e9)), "d"];
}

/** Returns a duration in nanoseconds: `82 µs`; a dash if there is none. @param {number | null | undefined} ns */
export function duration(ns) {
  return ns === null || ns === undefined ? "–" : durationParts(ns).join(" ");
}

/** Returns a size in bytes: `6 B`, `1,967 B`, `64.5 KiB`. @param {number} bytes */
export function size(bytes) {
  if (bytes < 10_000) return `${count(Math.round(bytes))} B`;
  let value = bytes;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    value /= 1024;
    if (value < 1000 || unit === "TiB") return `${value < 100 ? value.toFixed(1) : Math.round(value)} ${unit}`;
  }
  return "";
}

/** Returns bytes a second: `432 B/s`, `3.1 KiB/s`. @param {number} bytes */
export function sizeRate(bytes) {
  return bytes >= 1000 && bytes < 10_000 ? `${(bytes / 1024).toFixed(1)} KiB/s` : `${size(bytes)}/s`;
}

/** Returns a rate: `38/s`, `0.4/s`. @param {number} perSecond */
export function rate(perSecond) {
  if (perSecond > 0 && perSecond < 9.95 && perSecond % 1 !== 0) return `${perSecond.toFixed(1)}/s`;
  return `${count(Math.round(perSecond))}/s`;
}

/** Icon and kind of each outcome and close reason; what is not listed is a plain end. @type {Record<string, [string, string]>} */
const WORDS = {
  ok: ["check", ""],
  open: ["open", ""],
  "half-closed": ["half", "warn"],
  unanswered: ["none", "warn"],
  unpaired: ["diff", ""],
  unsent: ["unsent", "bad"],
  withheld: ["shut", "warn"],
  "peer-reset": ["bolt", "bad"],
  "reset-by-us": ["bolt", "bad"],
  "reset-by-operator": ["bolt", "bad"],
  "idle-timeout": ["clock", ""],
  "message-timeout": ["clock", "warn"],
  "write-timeout": ["clock", "bad"],
  "linger-timeout": ["clock", "warn"],
  "handshake-timeout": ["clock", "warn"],
  "drain-timeout": ["clock", "warn"],
  "message-too-long": ["alert", "bad"],
  "reply-too-long": ["alert", "bad"],
  "too-many-connections": ["alert", "bad"],
  "too-many-from-source": ["alert", "bad"],
  "rate-limited": ["alert", "bad"],
  malformed: ["alert", "bad"],
  incomplete: ["alert", "warn"],
  denied: ["alert", "bad"],
  refused: ["alert", "bad"],
  "handshake-failed": ["alert", "bad"],
  "store-failed": ["alert", "bad"],
  "service-failed": ["alert", "bad"],
  "worker-lost": ["alert", "bad"],
  "system-error": ["alert", "bad"],
  "process-died": ["alert", "bad"],
  panicked: ["alert", "bad"],
};

/** Returns the icon and the kind (`""`, `warn`, `bad`) of an outcome, a state or a close reason. @param {string} word */
export function wordLook(word) {
  const [name, kind] = WORDS[word] ?? ["shut", ""];
  return { icon: name, kind };
}

/** Whether a protocol has datagrams, not a stream. @param {string} proto */
export function isDatagram(proto) {
  return proto === "udp" || proto === "unixgram";
}

/** Returns an address without its scheme. @param {string} address */
export function bare(address) {
  return address.replace(/^[a-z]+:(\/\/)?/, "");
}

/** Returns ` --store LOCATION` for a command on this record; nothing for echoic.db in the current directory, the default. @param {import("./types.js").Info | null} info */
export function storeOption(info) {
  const location = info ? info.store.url.replace(/^sqlite:/, "") : "echoic.db";
  return location === "echoic.db" ? "" : ` --store ${shellQuote(location)}`;
}

/** Puts a word for a shell into quotes, where it needs them. @param {string} text */
export function shellQuote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
