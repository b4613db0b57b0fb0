/**
 * The command that sends in a terminal what the drawer sends.
 * @module
 */
import { bare, isDatagram, shellQuote } from "../format.js";
import { counts } from "./text.js";

/**
 * @typedef {object} Wish what the form says
 * @property {string} url of the target @property {string} frame "" for that of the endpoint @property {string} ownFrame of the endpoint
 * @property {boolean} hex @property {string[]} typed the messages before escapes @property {number} times
 * @property {string} every @property {string} wait @property {string} expect
 */

/** More numbered messages than this come from a pipe. */
const LISTED = 5;

/** @param {string} url */
const schemeOf = (url) => url.slice(0, url.indexOf(":"));

/** Returns an address as `echoic connect` takes it: `:5000` for TCP of this machine. @param {string} url */
export function target(url) {
  const proto = schemeOf(url);
  if (proto.startsWith("unix")) return shellQuote(`${proto}:${bare(url)}`);
  const address = bare(url);
  const port = address.slice(address.lastIndexOf(":"));
  const local = /^(127\.0\.0\.1|\[::1\]):/.test(address) ? port : address;
  return shellQuote(proto === "tcp" ? local : `${proto}://${local}`);
}

/** Text that `--expect` takes as it is, not as a regular expression. @param {string} text @param {boolean} hex */
function expectation(text, hex) {
  if (hex) return `/(?-u)${text.replace(/[^0-9a-f]/gi, "").replace(/../g, "\\x$&")}/`;
  if (!text.startsWith("/") && !text.includes("\\")) return text;
  // Escapes of the drawer are those of a regular expression too; all else stands for itself.
  const parts = text.split(/(\\(?:[nrt\\]|x[0-9a-f]{2}))/i);
  return `/${parts.map((part, at) => (at % 2 === 1 ? part : part.replace(/[\\^$.|?*+()[\]{}/]/g, "\\$&"))).join("")}/`;
}

/** @param {string} text */
const sendText = (text) => text.replace(/^@/, "\\x40").replaceAll("\n", "\\n");

/** Text as the replacement of sed, with the number of the line as the counter. @param {string} text */
const forSed = (text) => sendText(text).replace(/[\\&/]/g, "\\$&").replaceAll("{n}", "&");

/** A word for a shell with the variable n as the counter. @param {string} text */
const forLoop = (text) => text.split("{n}").map((part) => (part === "" ? "" : shellQuote(part))).join('"$n"');

/** The options that say how to connect, and what to expect. @param {Wish} wish */
function options({ url, frame, ownFrame, hex, expect, wait }) {
  const used = frame || (ownFrame === "chunk" ? "" : ownFrame);
  const parts = ["echoic connect", target(url)];
  if (used && !isDatagram(schemeOf(url))) parts.push(`--frame ${shellQuote(used)}`);
  if (expect) parts.push(`--expect ${shellQuote(expectation(expect, hex))}`, `-w ${shellQuote(wait)}`);
  return parts.join(" ");
}

/** Numbers each message, with or without a pause. @param {Wish} wish @param {string} connect @param {boolean} pauses */
function counted({ typed, times, every }, connect, pauses) {
  const [first = ""] = typed;
  const all = times * typed.length;
  if (pauses && typed.length === 1) return `for n in $(seq ${all}); do ${connect} --send ${forLoop(sendText(first))}; sleep ${seconds(every)}; done`;
  if (all > LISTED && typed.length === 1) return `seq ${all} | sed ${shellQuote(`s/.*/--send=${forSed(first)}/`)} | xargs -d '\\n' ${connect}`;
  const texts = Array.from({ length: all }, (_, at) => sendText((typed[at % typed.length] ?? "").replaceAll("{n}", String(at + 1))));
  return [connect, ...texts.map((text) => `--send ${shellQuote(text)}`)].join(" ");
}

/** A pause as `sleep` takes it. @param {string} every */
function seconds(every) {
  const [, number = "0", unit = "s"] = /^([\d.]+)\s*([a-zµ]*)$/.exec(every.trim()) ?? [];
  const scale = /** @type {Record<string, number>} */ ({ us: 1e-6, µs: 1e-6, ms: 1e-3, s: 1, "": 1, min: 60, m: 60, h: 3600 })[unit] ?? 1;
  return String(Number(number) * scale);
}

/** Returns the command. @param {Wish} wish */
export function command(wish) {
  const { typed, hex, times, every } = wish;
  const connect = options(wish);
  const pauses = seconds(every) !== "0" && times * typed.length > 1;
  if (!hex && typed.some(counts)) return counted(wish, connect, pauses);
  const sends = typed.map((text) => (hex ? `--send-hex ${shellQuote(text.trim())}` : `--send ${shellQuote(sendText(text))}`));
  const rest = [times > 1 && `--count ${times}`, times > 1 && pauses && `--every ${shellQuote(every.replaceAll(" ", ""))}`];
  return [connect, ...sends, ...rest.filter(Boolean)].join(" ");
}
