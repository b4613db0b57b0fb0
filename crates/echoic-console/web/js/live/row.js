/**
 * The row of an exchange.
 * @module
 */
import { showPreview } from "../bytes.js";
import { el, setData } from "../dom.js";
import { clock, dateTime, duration, size } from "../format.js";
import { icon } from "../icons.js";
import { EndpointCell, TextCell, WordCell } from "../rows/cells.js";

/** @typedef {import("../types.js").Exchange} Exchange */

/** The heads of the columns. */
export function exchangeHead() {
  /** @param {string} kind @param {...import("../dom.js").Child} words */
  const head = (kind, ...words) => el("span", { role: "columnheader", class: kind }, ...words);
  return el("div", { class: "row head", role: "row", "aria-rowindex": "1" }, head("", "Time"), head("", "Endpoint"), head("c-peer", "Peer"),
    head("", icon("right", "req"), "Request"), head("", icon("left", "rep"), "Reply"), head("num", "Latency"), head("", "Outcome"));
}

/** The cell of a request or a reply. */
class MessageCell {
  /** @param {"req" | "rep"} side @param {string} none what stands there without a byte */
  constructor(side, none) {
    this.bytes = el("span", { class: "bytes" });
    this.size = document.createTextNode("");
    this.none = [el("span", { class: "dim" }, none)];
    this.parts = [icon(side === "req" ? "right" : "left", side), el("span", { class: "sr" }, side === "req" ? "request " : "reply "), this.bytes,
      el("small", {}, this.size)];
    this.isEmpty = true;
    this.node = el("span", { class: `msg m-${side}`, role: "gridcell" }, ...this.none);
  }

  /** @param {import("../types.js").Bytes} bytes */
  show(bytes) {
    const isEmpty = bytes.len === 0;
    if (isEmpty !== this.isEmpty) this.node.replaceChildren(...(isEmpty ? this.none : this.parts));
    this.isEmpty = isEmpty;
    if (isEmpty) return;
    showPreview(this.bytes, bytes);
    setData(this.size, size(bytes.len));
  }
}

/** An element that shows one exchange after another. */
export class ExchangeRow {
  constructor() {
    this.time = new TextCell("", "time");
    this.endpoint = new EndpointCell();
    this.peer = new TextCell("mono c-peer");
    this.request = new MessageCell("req", "no request");
    this.reply = new MessageCell("rep", "no reply");
    this.latency = new TextCell("num c-lat");
    this.outcome = new WordCell();
    const cells = [this.time, this.endpoint, this.peer, this.request, this.reply, this.latency, this.outcome];
    this.node = el("div", { class: "row", role: "row" }, ...cells.map(({ node }) => node));
  }

  /** @param {Exchange} exchange */
  show(exchange) {
    const { t_us, peer, req, rep, lat_ns, outcome } = exchange;
    this.time.show(clock(t_us), dateTime(t_us));
    this.endpoint.show(exchange);
    this.peer.show(peer, peer);
    this.request.show(req);
    this.reply.show(rep);
    this.latency.show(rep.len > 0 ? duration(lat_ns) : "");
    this.outcome.show(outcome);
  }
}
