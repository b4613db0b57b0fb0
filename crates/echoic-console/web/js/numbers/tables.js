/**
 * The figures of the charts as tables, and as a file.
 * @module
 */
import { el, fill } from "../dom.js";
import { clock, count, dateTime, duration } from "../format.js";

/**
 * @typedef {object} Bucket
 * @property {number} t_us @property {number} exchanges @property {number} ok @property {number} unanswered @property {number} unsent
 * @property {number} withheld @property {number} unpaired @property {number} request_bytes @property {number} reply_bytes
 * @property {number | null} p50_ns @property {number | null} p99_ns @property {number | null} max_ns @property {number | null} opened
 * @property {number | null} ended @property {number | null} reset @property {number | null} open
 */
/** @typedef {Bucket & {ep: string, svc: string}} ByEndpoint */
/** @typedef {{from_us: number, to_us: number, step_us: number, buckets: Bucket[], total: Bucket, by: ByEndpoint[]}} Stats */
/** A column: its head, and the cell of a step. @typedef {[string, (bucket: Bucket) => string]} Column */

/** @param {keyof Bucket} key @returns {(bucket: Bucket) => string} */
const counts = (key) => (bucket) => (bucket[key] === null || bucket[key] === undefined ? "–" : count(Number(bucket[key])));
/** @param {keyof Bucket} key @returns {(bucket: Bucket) => string} */
const times = (key) => (bucket) => duration(/** @type {number | null} */ (bucket[key]));

/** Columns of each chart's table. @type {Record<string, Column[]>} */
const COLUMNS = {
  exchanges: [["Exchanges", counts("exchanges")], ["Answered", counts("ok")], ["Unanswered", counts("unanswered")], ["Unsent", counts("unsent")], ["Withheld", counts("withheld")], ["Unpaired", counts("unpaired")]],
  latency: [["p50", times("p50_ns")], ["p99", times("p99_ns")], ["Longest", times("max_ns")]],
  conversations: [["Open", counts("open")], ["Opened", counts("opened")], ["Ended", counts("ended")], ["Reset", counts("reset")]],
};

/** @param {HTMLElement} place @param {string[]} heads @param {string[][]} rows the first cell of each is its head */
export function showTable(place, heads, rows) {
  const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
  const body = rows.map(([first = "", ...cells]) => el("tr", {}, el("th", { scope: "row" }, first), ...cells.map((text) => el("td", {}, text))));
  const { scrollTop } = place;
  fill(place);
  place.append(el("table", { class: "data" }, el("thead", {}, head), el("tbody", {}, ...body)));
  place.scrollTop = scrollTop;
}

/** Fills the table of a chart over time, newest first. @param {HTMLElement} place @param {string} chart @param {Stats} stats */
export function showSteps(place, chart, stats) {
  const columns = COLUMNS[chart] ?? [];
  const long = stats.to_us - stats.from_us > 86400e6;
  const time = (/** @type {number} */ us) => (long ? dateTime(us).slice(0, 16) : clock(us).slice(0, 8));
  const rows = stats.buckets.map((bucket) => [time(bucket.t_us), ...columns.map(([, cell]) => cell(bucket))]);
  showTable(place, ["From", ...columns.map(([head]) => head)], rows.reverse());
}

/** Keys of a step in a file, in this order. @type {(keyof Bucket)[]} */
const KEYS = ["t_us", "exchanges", "ok", "unanswered", "unsent", "withheld", "unpaired", "request_bytes", "reply_bytes", "p50_ns", "p99_ns", "max_ns", "opened", "ended", "reset", "open"];

/** Returns the steps as comma-separated values: numbers alone. @param {Stats} stats */
export function csv(stats) {
  const lines = stats.buckets.map((bucket) => KEYS.map((key) => bucket[key] ?? "").join(","));
  return `${[KEYS.join(","), ...lines].join("\r\n")}\r\n`;
}

/** A histogram of the API: ranges of latencies, ascending. @typedef {{buckets: {from_ns: number, to_ns: number, n: number}[]}} Histogram */

/** Parts of the exchanges whose latency the table of percentiles tells. */
const PARTS = [0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999];

/**
 * Rows of percentiles, as far as the number of exchanges supports them: the middle of the range that has the exchange of that rank.
 * @param {Histogram} histogram @returns {string[][]}
 */
export function percentileRows({ buckets }) {
  const all = buckets.reduce((sum, { n }) => sum + n, 0);
  const rows = [];
  for (const part of PARTS) {
    if (all === 0 || 1 / (1 - part) > all) break;
    const rank = Math.max(1, Math.ceil(part * all));
    let seen = 0;
    const found = buckets.find(({ n }) => {
      seen += n;
      return seen >= rank;
    });
    if (found) rows.push([`p${Number((part * 100).toPrecision(6))}`, duration(Math.floor((found.from_ns + found.to_ns) / 2)), count(all - rank)]);
  }
  return rows;
}
