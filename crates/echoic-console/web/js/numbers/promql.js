/**
 * The charts as queries of Prometheus, which scrapes `/metrics`.
 * @module
 */

/** Least span of a rate: four scrapes at Prometheus' usual 15 s. */
const LEAST = 60;

/** The labels that a filter names; Prometheus knows no other part of it. @param {string} q */
function labels(q) {
  const names = /** @type {Record<string, string>} */ ({ ep: "endpoint", svc: "service" });
  const found = [...q.matchAll(/(?<!\S)(ep|svc):("?)([^\s",]+)\2(?!\S)/g)];
  return found.map(([, key = "", , value = ""]) => `${names[key]}=${JSON.stringify(value)}`).join(",");
}

/** Returns the queries of the charts. @param {string} q the filter @param {number} step in seconds */
export function promql(q, step) {
  const chosen = labels(q);
  const braces = chosen ? `{${chosen}}` : "";
  const span = `[${Math.max(LEAST, step)}s]`;
  const seconds = (/** @type {number} */ quantile) => `histogram_quantile(${quantile}, sum by (le) (rate(echoic_exchange_duration_seconds_bucket${braces}${span})))`;
  return [
    "# exchanges a second, by outcome",
    `sum by (outcome) (rate(echoic_exchanges_total${braces}${span}))`,
    "# latency: p50, p99",
    seconds(0.5),
    seconds(0.99),
    "# open conversations",
    `sum(echoic_connections_active${braces})`,
  ].join("\n");
}
