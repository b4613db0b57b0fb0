/**
 * The row of an exchange.
 * @module
 */
import { preview } from "../bytes.js";
import { el } from "../dom.js";
import { clock, dateTime, duration, isDatagram, size, wordLook } from "../format.js";
import { icon } from "../icons.js";

/** @typedef {import("../types.js").Exchange} Exchange */

/** The heads of the columns. */
export function exchangeHead() {
  /** @param {string} kind @param {...import("../dom.js").Child} words */
  const head = (kind, ...words) => el("span", { role: "columnheader", class: kind }, ...words);
  return el("div", { class: "row head", role: "row", "aria-rowindex": "1" }, head("", "Time"), head("", "Endpoint"), head("c-peer", "Peer"),
    head("", icon("right", "req"), "Request"), head("", icon("left", "rep"), "Reply"), head("num", "Latency"), head("", "Outcome"));
}

/** @param {import("../types.js").Bytes} bytes @param {"req" | "rep"} side @param {string} none */
function message(bytes, side, none) {
  if (bytes.len === 0) return el("span", { class: `msg m-${side}`, role: "gridcell" }, el("span", { class: "dim" }, none));
  const word = el("span", { class: "sr" }, side === "req" ? "request " : "reply ");
  return el("span", { class: `msg m-${side}`, role: "gridcell" }, icon(side === "req" ? "right" : "left", side), word, preview(bytes), el("small", {}, size(bytes.len)));
}

/** @param {Exchange} exchange */
export function exchangeRow({ t_us, ep, proto, peer, req, rep, lat_ns, outcome }) {
  const look = wordLook(outcome);
  return el(
    "div",
    { class: "row", role: "row" },
    el("time", { role: "gridcell", title: dateTime(t_us) }, clock(t_us)),
    el("span", { class: "c-ep", role: "gridcell" }, el("span", { class: isDatagram(proto) ? "pill dgram" : "pill" }, ep)),
    el("span", { class: "mono c-peer", role: "gridcell", title: peer }, peer),
    message(req, "req", "no request"),
    message(rep, "rep", "no reply"),
    el("span", { class: "num c-lat", role: "gridcell" }, rep.len > 0 ? duration(lat_ns) : ""),
    el("span", { class: `out c-end ${look.kind}`, role: "gridcell" }, icon(look.icon), outcome),
  );
}
