/**
 * The span of time of the screen Numbers, and its steps.
 * @module
 */

/** In seconds since 1970. @typedef {{from: number, to: number, step: number}} Span */

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;

/** Spans to choose from: word of the address, in words, in seconds, and short. `all` is as long as the record. @type {[string, string, number, string][]} */
export const RANGES = [
  ["5m", "Last 5 minutes", 5 * MINUTE, "5 min"],
  ["15m", "Last 15 minutes", 15 * MINUTE, "15 min"],
  ["1h", "Last hour", HOUR, "1 h"],
  ["6h", "Last 6 hours", 6 * HOUR, "6 h"],
  ["24h", "Last 24 hours", DAY, "24 h"],
  ["7d", "Last 7 days", 7 * DAY, "7 d"],
  ["all", "All of the record", 0, "all"],
];

/** Steps to choose from, in seconds. */
const STEPS = [1, 2, 5, 10, 20, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY, 365 * DAY];
/** Most steps that the server takes. */
const MOST = 720;
/** About so many steps are shown unless a step is chosen. */
const USUAL = 30;

/** Returns a step in words: `10 s`. @param {number} step */
export function stepWords(step) {
  if (step < MINUTE) return `${step} s`;
  if (step < HOUR) return `${step / MINUTE} min`;
  return step < DAY ? `${step / HOUR} h` : `${step / DAY} d`;
}

/** Returns a step as the API takes it. @param {number} step */
export const stepParam = (step) => `${step}s`;

/** @param {string} word of the address */
export function rangeOf(word) {
  return RANGES.find(([name]) => name === word) ?? /** @type {[string, string, number, string]} */ (RANGES[0]);
}

/** Steps that suit a span of so many seconds. @param {number} seconds */
export function stepsFor(seconds) {
  return STEPS.filter((step) => seconds / step <= MOST - 2 && seconds / step >= 4);
}

/** The step of a span, unless one is chosen that suits it. @param {number} seconds @param {number} chosen */
export function stepFor(seconds, chosen) {
  const suits = stepsFor(seconds);
  if (suits.includes(chosen)) return chosen;
  return suits.find((step) => seconds / step <= USUAL) ?? suits.at(-1) ?? 1;
}

/**
 * The span that ends with the step under way. It moves by whole steps, so that the server counts each finished step once.
 * @param {number} now @param {number} seconds @param {number} step @returns {Span}
 */
export function spanAt(now, seconds, step) {
  const to = (Math.floor(now / step) + 1) * step;
  return { from: to - Math.max(step, Math.ceil(seconds / step) * step), to, step };
}

/** @param {string} text of the address: `10s`; 0 if it is none */
export function parseStep(text) {
  const found = /^(\d+)s$/.exec(text);
  return found ? Number(found[1]) : 0;
}
