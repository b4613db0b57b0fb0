/**
 * The row of a conversation.
 * @module
 */
import { visible } from "../bytes.js";
import { el } from "../dom.js";
import { bare, clock, count, dateTime, duration, isDatagram, size, wordLook } from "../format.js";
import { icon } from "../icons.js";
import { href } from "../router.js";

/** @typedef {import("../types.js").Conversation} Conversation */

/** The heads of the columns. @param {HTMLElement} order the button that turns the order @param {HTMLElement} all the box that marks */
export function conversationHead(order, all) {
  /** @param {string} kind @param {...import("../dom.js").Child} words */
  const head = (kind, ...words) => el("span", { role: "columnheader", class: kind }, ...words);
  return el("div", { class: "row head", role: "row", "aria-rowindex": "1" }, head("", all), head("", "Id"),
    el("span", { role: "columnheader", class: "c-start" }, order), head("c-dur num", "Lasted"), head("", "Peer"), head("", "Endpoint"),
    head("c-svc", "Service"), head("num", "Exch."), head("num c-in", icon("right", "req"), "Received"), head("num c-out", icon("left", "rep"), "Sent"),
    head("", "Close reason"), head("c-tags", "Tags"));
}

/** How long it lasted, or lasts. @param {Conversation} conversation @param {number} now in µs */
export function lasted({ opened_us, ended_us }, now) {
  const us = Math.max(0, (ended_us ?? now) - opened_us);
  return us === 0 ? "0 ms" : duration(us * 1000);
}

/** @param {string} kind @param {number | null} bytes */
function bytesCell(kind, bytes) {
  if (bytes !== null) return el("span", { class: `num ${kind}`, role: "gridcell" }, size(bytes));
  return el("span", { class: `num ${kind} dim`, role: "gridcell", title: "Known when it has ended" }, "–");
}

/**
 * @param {Conversation} conversation
 * @param {{marked: boolean, now: number, q: string, mark: (event: Event) => void}} options
 */
export function conversationRow(conversation, { marked, now, q, mark }) {
  const { conv, opened_us, peer, ep, proto, svc, exchanges, received, sent, state, reason, tags, note, role } = conversation;
  const word = state === "ended" ? (reason ?? state) : state;
  const look = wordLook(word);
  const box = el("input", { type: "checkbox", tabindex: -1, "aria-label": `Mark c${conv}`, onchange: mark });
  box.checked = marked;
  const labels = [...tags.map((tag) => el("span", { class: "tag" }, tag)), note ? el("span", { class: "has-note", title: visible(note) }, icon("note"), el("span", { class: "sr" }, "has a note")) : null];
  return el(
    "div",
    { class: "row", role: "row", "aria-selected": String(marked) },
    el("span", { role: "gridcell" }, box),
    el("span", { class: "mono c-id", role: "gridcell" }, el("a", { href: href(`conversations/${conv}`, { q }), tabindex: -1 }, `c${conv}`)),
    el("time", { class: "c-start", role: "gridcell", title: dateTime(opened_us) }, clock(opened_us).slice(0, 8), el("span", { class: "ms" }, clock(opened_us).slice(8))),
    el("span", { class: "num c-dur", role: "gridcell" }, lasted(conversation, now)),
    el("span", { class: "mono c-peer", role: "gridcell", title: peer }, bare(peer)),
    el("span", { class: "c-ep", role: "gridcell" }, el("span", { class: isDatagram(proto) ? "pill dgram" : "pill" }, ep)),
    el("span", { class: "c-svc", role: "gridcell" }, role === "client" ? "client" : svc),
    el("span", { class: "num c-n", role: "gridcell" }, count(exchanges)),
    bytesCell("c-in", received),
    bytesCell("c-out", sent),
    el("span", { class: `out c-end ${look.kind}`, role: "gridcell" }, icon(look.icon), word),
    el("span", { class: "c-tags", role: "gridcell" }, ...labels),
  );
}
