/**
 * A request beside its reply, and the lines between: connected, half-closed, ended.
 * @module
 */
import { writtenNodes } from "../bytes.js";
import { append, el, setText } from "../dom.js";
import { clock, dateTime, duration, isDatagram } from "../format.js";
import { icon } from "../icons.js";
import { Box } from "./box.js";

/** @typedef {import("../types.js").Exchange} Exchange */
/** How times are shown. @typedef {"clock" | "start" | "delta"} Times */
/** @typedef {{look: import("./box.js").Look, times: Times, start: number}} Shown */

/** Made once: it takes thirty times as long as a use of it, and a page of messages has one in each. */
const SECONDS = new Intl.NumberFormat("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 });

/** Returns seconds with their sign: `+0.413 s`. @param {number} us */
export function seconds(us) {
  return `${us < 0 ? "−" : "+"}${SECONDS.format(Math.abs(us) / 1e6)} s`;
}

/** Returns a time as chosen. @param {number} at @param {number} before time of the line before @param {Shown} shown */
export function timeText(at, before, { times, start }) {
  return times === "clock" ? clock(at) : seconds(at - (times === "start" ? start : before));
}

export class Pair {
  /** @param {Exchange} exchange @param {number} before time of the line before @param {Shown} shown */
  constructor(exchange, before, shown) {
    this.exchange = exchange;
    this.before = before;
    const { n, t_us, req, rep, outcome, lat_ns, proto } = exchange;
    const datagram = isDatagram(proto);
    this.when = el("span", {});
    this.req = req.len > 0 ? new Box(exchange, "req", shown.look, datagram) : null;
    this.rep = rep.len > 0 ? new Box(exchange, "rep", shown.look, datagram) : null;
    this.node = el("article", { class: "pair", id: `m${n}`, "data-n": n, "aria-label": `Exchange ${n}` });
    const took = el("p", { class: "took" });
    if (outcome === "ok" || rep.len > 0) append(took, req.len > 0 && rep.len > 0 ? duration(lat_ns) : "");
    if (outcome !== "ok") append(took, el("span", { class: `out ${outcome === "unsent" ? "bad" : "warn"}` }, outcome));
    const labels = [...(exchange.tags ?? []).map((tag) => el("span", { class: "tag" }, tag)), exchange.note ? el("span", { class: "dim" }, ...writtenNodes(exchange.note)) : null];
    append(
      this.node,
      el("time", { title: dateTime(t_us) }, el("b", {}, `#${n}`), this.when),
      this.req?.node ?? noBytes("q", req.len === 0 && rep.len > 0 ? "no request: sent by the server on its own" : "empty request"),
      took,
      this.rep?.node ?? noBytes("a", outcome === "unanswered" ? "no reply" : "empty reply"),
      exchange.tags?.length || exchange.note ? el("p", { class: "labels" }, ...labels) : null,
    );
    this.draw(shown);
  }

  /** Draws times and bytes with another look. @param {Shown} shown @param {boolean} [bytes] */
  draw(shown, bytes = false) {
    setText(this.when, timeText(this.exchange.t_us, this.before, shown));
    if (!bytes) return;
    this.req?.draw(shown.look);
    this.rep?.draw(shown.look);
  }
}

/** @param {string} side @param {string} words */
function noBytes(side, words) {
  return el("div", { class: `none ${side}` }, icon("none"), words);
}

/**
 * A line of what happened beside the messages.
 * @param {{at: number | null, icon: string, kind?: string, word?: string, text: string}} line @param {number} before @param {Shown} shown
 */
export function eventLine({ at, icon: sign, kind = "", word = "", text }, before, shown) {
  const time = at === null ? el("time", {}) : el("time", { title: dateTime(at) }, timeText(at, before, shown));
  return el("p", { class: `ev ${kind}` }, time, icon(sign), word ? el("b", {}, word) : null, el("span", {}, text));
}
