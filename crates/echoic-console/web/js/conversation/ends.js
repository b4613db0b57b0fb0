/**
 * The first and the last lines of a conversation: how it began, what made no message, how it ended, and what it was in all.
 * @module
 */
import { toArray } from "../bytes.js";
import { el } from "../dom.js";
import { clock, counted, size } from "../format.js";
import { wordLook } from "../format.js";
import { eventLine } from "./pair.js";
import { tlsLine } from "./tls.js";
import { cellView, hexView, textCells } from "./views.js";
import { reasonWords } from "./words.js";

/** @typedef {import("../types.js").Conversation} Conversation */
/** @typedef {import("./pair.js").Shown} Shown */

/** Bytes of the left-over ones that are shown. */
const LEFT_SHOWN = 256;

/** The lines of the beginning. @param {Conversation} conversation @param {Shown} shown */
export function beginLines({ opened_us, role, proto, tls }, shown) {
  const datagram = proto === "udp" || proto === "unixgram";
  const word = datagram ? "first datagram" : role === "client" ? "connected" : "accepted";
  const first = eventLine({ at: opened_us, icon: "open", word, text: clock(opened_us) }, opened_us, shown);
  return tls ? [first, tlsLine(tls, shown)] : [first];
}

/** Bytes that made no message; their note tells what the header claimed. @param {Conversation} conversation @param {number} before @param {Shown} shown */
function leftOver({ left, ended_us, frame }, before, shown) {
  if (!left) return [];
  const bytes = toArray(left).subarray(0, LEFT_SHOWN);
  const text = `${size(left.len)} made no message of ${frame}: ${left.note}`;
  const line = eventLine({ at: ended_us, icon: "alert", kind: "warn", word: "left over", text }, before, shown);
  const view = left.b64 === undefined ? cellView(textCells(bytes, false), "Left-over bytes") : hexView(bytes, shown.look.width, "Left-over bytes, in hex");
  const rest = left.len > bytes.length ? el("p", { class: "more" }, `${size(bytes.length)} of ${size(left.len)} shown`) : null;
  return [line, el("div", { class: "box left" }, view.node, rest ?? "")];
}

/**
 * The lines after the last message.
 * @param {Conversation} conversation @param {{before: number, turns: number | null, shown: Shown}} options
 * @returns {Node[]}
 */
export function endLines(conversation, { before, turns, shown }) {
  const { reason, ended_us, role, state } = conversation;
  const nodes = leftOver(conversation, before, shown);
  if (state === "ended" && reason) {
    const look = wordLook(reason);
    nodes.push(eventLine({ at: ended_us, icon: look.icon, kind: look.kind, word: reason, text: reasonWords(reason, role) }, before, shown));
  }
  nodes.push(eventLine({ at: null, icon: state === "ended" ? "shut" : "open", text: sums(conversation, turns) }, before, shown));
  return nodes;
}

/** What the conversation was in all, or is so far. @param {Conversation} conversation @param {number | null} turns */
function sums({ exchanges, state, request_bytes, reply_bytes, received, sent, unsent, discarded }, turns) {
  const parts = [counted(exchanges, "exchange") + (turns === null ? "" : `, ${counted(turns, "turn")}`)];
  if (received !== null && sent !== null) parts.push(`received ${size(received)}, sent ${size(sent)}`);
  else if (request_bytes !== null && reply_bytes !== null) parts.push(`${size(request_bytes)} of requests and ${size(reply_bytes)} of replies so far`);
  if (unsent) parts.push(`${size(unsent)} unsent`);
  if (discarded) parts.push(`${size(discarded)} discarded after the end`);
  const text = `${parts.join("; ")}.`;
  return state === "ended" ? text : `${text} ${state === "open" ? "It is open." : "The client has finished sending; it is still open."}`;
}
