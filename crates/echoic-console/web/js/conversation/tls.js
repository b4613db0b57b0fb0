/**
 * What the TLS handshake of a conversation agreed on, in words. Names and subjects are the peer's: hidden characters become signs.
 * @module
 */
import { visible } from "../bytes.js";
import { el, fill } from "../dom.js";
import { tlsWord } from "../tls.js";
import { eventLine } from "./pair.js";

/** @typedef {import("../types.js").Tls} Tls */
/** @typedef {import("./pair.js").Shown} Shown */

/** Its parts with their names, as far as they are known. @param {Tls} tls @returns {[string, string][]} */
function parts({ version, cipher, sni, alpn, client, failure }) {
  /** @type {[string, string | undefined][]} */
  const all = [["failure", failure], ["version", version], ["cipher suite", cipher], ["server name (SNI)", sni], ["protocol (ALPN)", alpn],
    ["client certificate", client?.subject], ["its SHA-256", client?.sha256]];
  return all.flatMap(([name, value]) => (value === undefined ? [] : [[name, visible(value)]]));
}

/** The line of the handshake; the record does not tell its time. @param {Tls} tls @param {Shown} shown */
export function tlsLine(tls, shown) {
  const { cipher, sni, alpn, client, failure } = tls;
  const words = [failure, cipher, sni && `asked for ${sni} (SNI)`, alpn && `${alpn} (ALPN)`, client && `client certificate ${client.subject}`];
  const text = words.flatMap((word) => (word ? [visible(word)] : [])).join("; ");
  return eventLine({ at: null, icon: "lock", kind: failure === undefined ? "" : "bad", word: tlsWord(tls), text }, 0, shown);
}

/** Shows all of it in a section beside the messages. @param {HTMLElement} section @param {Tls | undefined} tls */
export function showTls(section, tls) {
  section.hidden = !tls;
  if (!tls) return;
  fill(section, el("h3", {}, "TLS"), el("dl", { class: "kv stacked" }, ...parts(tls).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}
