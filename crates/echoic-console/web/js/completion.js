/**
 * What can be typed next in a filter. Keys and values are those of the filter language (docs/filters), tested against the server.
 * @module
 */

/** A proposal: the text, what it means, and what it becomes in the field. @typedef {{text: string, means: string, insert: string}} Proposal */

/** Keys of the language, without those that shape a list (`sort:`, `limit:`): pages go by id. @type {[string, string][]} */
const KEYS = [
  ["req:", "text in the request"],
  ["rep:", "text in the reply"],
  ["any:", "text in either"],
  ["req~", "regular expression on the request"],
  ["rep~", "regular expression on the reply"],
  ["any~", "regular expression on either"],
  ["hex:", "bytes as hexadecimal digits, ?? for any"],
  ["is:", "outcome or state: is:unanswered"],
  ["end:", "how the conversation ended: end:rst"],
  ["ep:", "endpoint: ep:tcp:5000"],
  ["proto:", "protocol: proto:udp"],
  ["svc:", "service: svc:upper"],
  ["peer:", "address or network of the peer: peer:10.0.0.0/8"],
  ["port:", "port of the peer: port:5000..5010"],
  ["lat:", "latency: lat:>5ms"],
  ["size:", "bytes of request and reply: size:>1k"],
  ["since:", "not older than: since:10m"],
  ["after:", "after a time: after:2026-08-01T12:00"],
  ["before:", "before a time: before:13:55"],
  ["conv:", "conversation: conv:17"],
  ["id:", "exchange: id:17..40"],
  ["n:", "number within its conversation: n:1"],
  ["role:", "who recorded it: role:client"],
  ["server:", "server by id or name"],
  ["tag:", "tag: tag:ci"],
  ["note:", "text in a note"],
];

/** Values of keys that take one of a few words. @type {Record<string, string[]>} */
const WORDS = {
  is: "ok unanswered unsent withheld unpaired open closed half reset truncated timeout limit drain error binary utf8 http tls".split(" "),
  end: "fin rst timeout limit drain store error".split(" "),
  proto: "tcp udp unix unixgram tls ws wss".split(" "),
  role: ["server", "client"],
  since: ["1m", "10m", "1h", "1d", "7d"],
  lat: [">1ms", ">10ms", ">100ms"],
  size: [">1k", ">64k", ">1M"],
};

/** Values that the server knows: endpoints, services, tags. @type {Record<string, string[]>} */
const known = {};

/** Tells values of a key: `learn("ep", ["tcp:5000"])`. @param {string} key @param {string[]} values */
export function learn(key, values) {
  known[key] = [...new Set(values)].sort();
}

/** The term that ends at the caret: not within quotes. @param {string} text @param {number} caret */
export function termAt(text, caret) {
  let start = 0;
  let quoted = false;
  for (let at = 0; at < caret; at++) {
    const c = text[at];
    if (c === '"') quoted = !quoted;
    else if (!quoted && (c === " " || c === "(" || c === ")")) start = at + 1;
  }
  if (/^[-!]/.test(text.slice(start, caret))) start++;
  return { start, text: text.slice(start, caret), quoted };
}

/** @param {string} value */
function quoteValue(value) {
  return /[\s"()]/.test(value) ? `"${value.replaceAll('"', '\\"')}"` : value;
}

/**
 * Proposals for the term before the caret.
 * @param {string} text @param {number} caret
 * @returns {Proposal[]}
 */
export function proposals(text, caret) {
  const term = termAt(text, caret);
  if (term.quoted) return [];
  const colon = term.text.indexOf(":");
  if (colon < 0) {
    if (term.text === "" && text !== "") return [];
    const typed = term.text.toLowerCase();
    const keys = KEYS.filter(([key]) => key.startsWith(typed) && key !== typed);
    return keys.map(([key, means]) => ({ text: key, means, insert: key }));
  }
  const key = term.text.slice(0, colon);
  const typed = term.text.slice(colon + 1);
  const values = known[key] ?? WORDS[key] ?? [];
  const fitting = values.filter((value) => value.startsWith(typed) && value !== typed);
  return fitting.map((value) => ({ text: value, means: `${key}:${value}`, insert: `${key}:${quoteValue(value)} ` }));
}
