/**
 * The TLS of a conversation in a few words.
 * @module
 */
import { visible } from "./bytes.js";

/** @typedef {import("./types.js").Tls} Tls */

/** Returns a word for it: `TLS 1.3`. @param {Tls} tls */
export function tlsWord({ version, failure }) {
  return failure === undefined ? `TLS${version === undefined ? "" : ` ${version}`}` : "TLS handshake failed";
}

/** Returns what the pointer is told: the word, and the cipher suite or why the handshake failed. @param {Tls} tls */
export function tlsTitle(tls) {
  return [tlsWord(tls), tls.failure ?? tls.cipher].flatMap((part) => (part === undefined ? [] : [visible(part)])).join(": ");
}
