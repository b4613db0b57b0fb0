/**
 * Numbers by endpoint. A row filters the page.
 * @module
 */
import { el, fill, setAttribute, setText } from "../dom.js";
import { bare, count, duration, isDatagram, size } from "../format.js";
import { icon } from "../icons.js";
import { setParams } from "../router.js";

/** @typedef {import("./tables.js").Stats} Stats */
/** @typedef {import("./tables.js").ByEndpoint} ByEndpoint */
/** @typedef {import("../types.js").Info} Info */

/** A value as the filter language takes it. @param {string} text */
const quoted = (text) => (/[\s"(),]/.test(text) ? `"${text.replace(/["\\]/g, "\\$&")}"` : text);

/** The terms that choose a row. @param {ByEndpoint} row */
const terms = ({ ep, svc }) => [`ep:${quoted(ep)}`, `svc:${quoted(svc)}`];

/** Splits a filter at spaces outside of quotes. @param {string} q */
const split = (q) => /** @type {string[]} */ (q.match(/(?:"(?:\\.|[^"\\])*"|[^\s"])+/g) ?? []);

/** Whether the filter chooses this row. @param {string} q @param {ByEndpoint} row */
export function isChosen(q, row) {
  const parts = split(q);
  return terms(row).every((term) => parts.includes(term));
}

/** The filter with the row chosen in place of another, or without it. @param {string} q @param {ByEndpoint} row @param {ByEndpoint[]} all */
export function toggled(q, row, all) {
  const others = new Set(all.flatMap(terms));
  const rest = split(q).filter((part) => !others.has(part));
  return (isChosen(q, row) ? rest : [...rest, ...terms(row)]).join(" ");
}

/** @param {...import("../dom.js").Child} words */
const head = (...words) => el("span", { role: "columnheader", class: "num" }, ...words);
/** @param {string} text */
const number = (text) => el("span", { role: "cell", class: "num" }, text);

export class Endpoints {
  constructor() {
    this.rows = el("div", { class: "rows nums", role: "table", "aria-label": "By endpoint" });
    this.node = el("figure", { class: "chart wide flush" }, el("figcaption", {}, el("h2", {}, "By endpoint"), el("span", { class: "push dim" }, "a row filters the page")), this.rows);
    /** Rows seen, so that a chosen one can be given up. @type {ByEndpoint[]} */
    this.all = [];
    this.q = "";
    /** The rows drawn. */
    this.drawn = "";
  }

  /** @param {Stats} stats @param {Info | null} info @param {string} q */
  show(stats, info, q) {
    this.all = stats.by;
    this.q = q;
    const seconds = Math.max(1, (stats.to_us - stats.from_us) / 1e6);
    const focused = document.activeElement?.closest("[data-endpoint]")?.getAttribute("data-endpoint");
    const heads = el("div", { class: "row head", role: "row" }, el("span", { role: "columnheader" }, "Endpoint"), el("span", { role: "columnheader" }, "Service"), head("Open"), head("Rate"), head("p50"), head("p99"),
      head(icon("right", "req"), "Received"), head(icon("left", "rep"), "Sent"), head("No reply"));
    const none = el("div", { class: "row none", role: "row" }, el("span", { role: "cell" }, q ? "Nothing in this time matches." : "No exchanges in this time."));
    const rows = [heads, ...(stats.by.length === 0 ? [none] : stats.by.map((row) => this.#row(row, seconds, info)))];
    const drawn = JSON.stringify(stats.by.map(terms));
    if (drawn === this.drawn) {
      for (const [at, row] of rows.entries()) become(/** @type {Element} */ (this.rows.children[at]), row);
      return;
    }
    this.drawn = drawn;
    fill(this.rows, ...rows);
    if (focused) /** @type {HTMLElement | null} */ (this.rows.querySelector(`[data-endpoint="${CSS.escape(focused)}"] button`))?.focus();
  }

  /** @param {ByEndpoint} row @param {number} seconds @param {Info | null} info */
  #row(row, seconds, info) {
    const { ep, svc } = row;
    const endpoint = info?.endpoints.find((one) => one.ep === ep && one.svc === svc);
    const proto = ep.split(":")[0] ?? "";
    const name = endpoint?.addrs[0] ?? ep;
    const chosen = isChosen(this.q, row);
    const choose = () => setParams({ q: toggled(this.q, row, this.all) });
    const button = el("button", { type: "button", class: "link", "aria-pressed": String(chosen), title: chosen ? "Show all endpoints" : `Show ${ep} alone` },
      el("span", { class: isDatagram(proto) ? "pill dgram" : "pill" }, proto.toUpperCase()), el("span", { class: "mono" }, bare(name)));
    const node = el("div", { class: chosen ? "row on" : "row", role: "row", "data-endpoint": `${ep} ${svc}`, onclick: choose },
      el("span", { role: "cell" }, button), el("span", { role: "cell" }, svc), number(endpoint ? count(endpoint.open) : "–"), number(rateWords(row.exchanges / seconds)), number(duration(row.p50_ns)),
      number(duration(row.p99_ns)), number(size(row.request_bytes)), number(size(row.reply_bytes)), number(count(row.unanswered + row.unsent + row.withheld)));
    return node;
  }
}

/** Gives an element the texts and attributes of another of its shape: it keeps the focus, and a press on it is not lost. @param {Element} node @param {Element} like */
function become(node, like) {
  for (const { name, value } of like.attributes) setAttribute(node, name, value);
  if (like.childElementCount === 0) setText(node, like.textContent ?? "");
  for (const [at, child] of [...like.children].entries()) become(/** @type {Element} */ (node.children[at]), child);
}

/** Exchanges a second: `38.0`, `0.02`. @param {number} rate */
function rateWords(rate) {
  if (rate === 0) return "0";
  return rate < 0.1 ? rate.toPrecision(1) : rate < 1000 ? rate.toFixed(1) : count(Math.round(rate));
}
