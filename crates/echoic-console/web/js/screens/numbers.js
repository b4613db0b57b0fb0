/**
 * Numbers: how much, how fast, and what was not answered.
 * @module
 */
import { api, ApiError, isAbort, isMistake, url } from "../api.js";
import { copyButton } from "../copy.js";
import { append, el, fill, messageOf, setText, svg } from "../dom.js";
import { shellQuote, storeOption } from "../format.js";
import { icon } from "../icons.js";
import { Chart } from "../numbers/chart.js";
import { Endpoints } from "../numbers/endpoints.js";
import { promql } from "../numbers/promql.js";
import { parseStep, RANGES, rangeOf, spanAt, stepFor, stepParam, stepsFor, stepWords } from "../numbers/range.js";
import { csv, percentileRows, showSteps, showTable } from "../numbers/tables.js";
import { setParams } from "../router.js";
import { stream } from "../stream.js";

/** @typedef {import("../screens.js").Frame} Frame */
/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../numbers/tables.js").Stats} Stats */

/** Figures are asked for again so often, in ms, between these bounds. */
const OFTEN = 2000;
const SELDOM = 30_000;
/** After an answer that says how much of the record is counted, in ms. */
const COUNTING = 100;
/** How long the record is counted for an answer. */
const BUDGET = "2s";
/** After a change of width, in ms. */
const SETTLE = 200;

/** A colour and what it means. @param {string} name of the class @param {string} word */
const block = (name, word) => el("span", { class: "key" }, svg("svg", { "aria-hidden": "true" }, svg("rect", { width: 10, height: 8, x: 4, class: name })), word);
/** @param {string} name of the class @param {string} word */
const line = (name, word) => el("span", { class: "key plot" }, svg("svg", { "aria-hidden": "true" }, svg("path", { d: "M0 4h18", class: name })), word);

/** @param {string} label @param {string} name of the parameter */
function choice(label, name) {
  const select = el("select", { "aria-label": label, onchange: () => setParams({ [name]: select.value }) });
  return { select, node: el("span", { class: "pick" }, select, icon("down")) };
}

/** @param {HTMLSelectElement} select @param {[string, string][]} options @param {string} chosen */
function setOptions(select, options, chosen) {
  const key = JSON.stringify(options);
  if (select.dataset.options !== key) {
    select.dataset.options = key;
    fill(select, ...options.map(([value, words]) => el("option", { value }, words)));
  }
  select.value = chosen;
}

class Numbers {
  /** @param {Frame} frame @param {Route} route */
  constructor(frame, route) {
    this.frame = frame;
    this.route = route;
    this.calls = new AbortController();
    /** Whether the reader asked for the load under way. */
    this.asked = false;
    this.gone = false;
    /** Difference of the server's clock to ours, in seconds. */
    this.skew = 0;
    /** @type {Stats | null} */
    this.stats = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.hgrm = el("a", { class: "figure-link", "aria-label": "Latencies as .hgrm" }, ".hgrm");
    this.charts = {
      exchanges: new Chart("exchanges", "Exchanges a second", block("area", "answered"), block("badfill", "not answered")),
      latency: new Chart("latency", "Latency", line("l1", "p50"), line("l2", "p99"), block("h1", "few"), block("h5", "many")),
      conversations: new Chart("conversations", "Open conversations", block("badfill", "reset")),
      percentiles: new Chart("percentiles", "Latency by percentile", this.hgrm),
    };
    this.endpoints = new Endpoints();
    this.range = choice("Range", "range");
    this.step = choice("Step", "step");
    this.head = el("h2", {});
    this.about = el("span", { class: "dim opt" });
    this.mistake = el("p", { class: "await", role: "status", hidden: true });
    this.chartsButton = el("button", { type: "button", onclick: () => setParams({ view: null }) }, "Charts");
    this.tablesButton = el("button", { type: "button", onclick: () => setParams({ view: "tables" }) }, "Tables");
    this.grid = el("div", { class: "charts" }, ...Object.values(this.charts).map(({ node }) => node), this.endpoints.node);
    this.#build();
    this.resize = new ResizeObserver(() => this.#soon(SETTLE));
    this.width = 0;
    this.resize.observe(this.grid);
    this.ways = ["resume", "hello", "prune"].map((topic) => stream.subscribe(topic, () => this.#soon(0)));
    // Figures that are on their way would still change.
    this.ways.push(stream.subscribe("pause", () => this.stats && !this.asked && this.#giveUp()));
    this.update(route);
  }

  #build() {
    const download = el("button", { class: "btn", type: "button", "aria-label": "CSV", onclick: () => this.#download() }, icon("dl"), el("span", { class: "lbl" }, "CSV"));
    const views = el("span", { class: "seg", role: "group", "aria-label": "Show as" }, this.chartsButton, this.tablesButton);
    const prom = copyButton("PromQL", "Copy as PromQL", () => promql(this.#q, this.#span().step), { quiet: false, opt: true });
    const bar = el("div", { class: "bar" });
    append(bar, this.head, this.about, el("span", { class: "push" }), this.range.node, this.step.node, views, download, prom);
    fill(this.frame.main, el("h1", { class: "sr" }, "Numbers"), el("div", { class: "numbers" }, bar, this.mistake, this.grid));
  }

  get #q() {
    return this.route.params.get("q") ?? "";
  }

  /** Seconds of the span, and the step. */
  #length() {
    const [word, , seconds] = rangeOf(this.route.params.get("range") ?? "");
    const oldest = this.frame.info()?.store.oldest_us;
    const length = word !== "all" ? seconds : Math.max(60, oldest ? this.#now() - oldest / 1e6 : 0);
    return { length, step: stepFor(length, parseStep(this.route.params.get("step") ?? "")) };
  }

  #span() {
    const { length, step } = this.#length();
    return spanAt(this.#now(), length, step);
  }

  #now() {
    return Date.now() / 1000 + this.skew;
  }

  /** @param {Route} route */
  update(route) {
    this.route = route;
    const tables = route.params.get("view") === "tables";
    this.chartsButton.setAttribute("aria-pressed", String(!tables));
    this.tablesButton.setAttribute("aria-pressed", String(tables));
    for (const chart of Object.values(this.charts)) chart.setView(tables);
    this.grid.classList.toggle("as-tables", tables);
    this.#giveUp();
    void this.#load(true);
  }

  #giveUp() {
    this.calls.abort();
    this.calls = new AbortController();
  }

  /** Asks for the figures again. @param {number} ms from now */
  #soon(ms) {
    if (ms === SETTLE && this.width === this.grid.clientWidth) return;
    clearTimeout(this.timer);
    if (!this.gone) this.timer = setTimeout(() => void this.#load(false), ms);
  }

  /** @param {boolean} asked by the reader: a paused page loads too */
  async #load(asked) {
    clearTimeout(this.timer);
    const { signal } = this.calls;
    const resized = this.width !== 0 && this.width !== this.grid.clientWidth;
    const idle = stream.paused || document.hidden || stream.state.state === "off";
    if (!asked && !resized && this.stats && idle) {
      this.#soon(OFTEN);
      return;
    }
    this.width = this.grid.clientWidth;
    this.asked = asked || resized;
    let counting = false;
    try {
      const info = await this.frame.refreshInfo();
      this.skew = info.now_us / 1e6 - Date.now() / 1000;
      signal.throwIfAborted();
      await this.#show(signal);
    } catch (error) {
      if (isAbort(error) || this.gone) return;
      counting = error instanceof ApiError && error.status === 503;
      this.#fail(error, counting);
    }
    if (signal === this.calls.signal) this.#soon(counting ? COUNTING : Math.min(SELDOM, Math.max(OFTEN, this.#length().step * 500)));
  }

  /** @param {AbortSignal} signal */
  async #show(signal) {
    const span = this.#span();
    this.#showRange(span.step);
    const stepped = { from_us: span.from * 1e6, to_us: span.to * 1e6, q: this.#q, step: stepParam(span.step) };
    const offset = -new Date().getTimezoneOffset();
    const stats = /** @type {Stats} */ (await api.get("/stats", { ...stepped, budget: BUDGET }, signal));
    this.stats = stats;
    this.frame.filter.ok();
    this.mistake.hidden = true;
    this.hgrm.setAttribute("href", url("/histogram", { ...stepped, format: "hgrm" }));
    this.endpoints.show(stats, this.frame.info(), this.#q);
    const { exchanges, latency, conversations, percentiles } = this.charts;
    for (const chart of [exchanges, latency, conversations]) showSteps(chart.table, chart.name, stats);
    await this.#percentiles(stepped, signal);
    await Promise.all([exchanges, latency, conversations, percentiles].map((chart) => chart.draw({ ...stepped, offset }, signal)));
  }

  /** @param {import("../api.js").Query} query @param {AbortSignal} signal */
  async #percentiles(query, signal) {
    if (this.route.params.get("view") !== "tables") return;
    const histogram = await api.get("/histogram", query, signal);
    showTable(this.charts.percentiles.table, ["Percentile", "Latency", "Slower"], percentileRows(histogram));
  }

  /** @param {number} step */
  #showRange(step) {
    const [word, words] = rangeOf(this.route.params.get("range") ?? "");
    const { length } = this.#length();
    setText(this.head, words);
    setText(this.about, `one point every ${stepWords(step)}, ${this.#q === "" ? "all endpoints" : "filtered"}`);
    setOptions(this.range.select, RANGES.map(([name, , , short]) => [name, short]), word);
    setOptions(this.step.select, stepsFor(length).map((each) => [stepParam(each), `every ${stepWords(each)}`]), stepParam(step));
  }

  /** @param {unknown} error @param {boolean} counting whether it says how much of the record is counted */
  #fail(error, counting) {
    if (isMistake(error) && this.#q !== "") {
      this.frame.filter.wrong(error);
      return;
    }
    const why = messageOf(error);
    setText(this.mistake, counting ? `Counting: ${why.split(":")[0]}.` : `The numbers could not be loaded: ${why}. Trying again.`);
    this.mistake.hidden = false;
  }

  #download() {
    if (!this.stats) return;
    const address = URL.createObjectURL(new Blob([csv(this.stats)], { type: "text/csv" }));
    el("a", { href: address, download: "echoic-numbers.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  command() {
    const store = storeOption(this.frame.info());
    const [word] = rangeOf(this.route.params.get("range") ?? "");
    const filter = [this.#q, word === "all" ? "" : `since:${word}`].filter(Boolean).join(" ");
    return `echoic log --count${store}${filter ? ` ${shellQuote(filter)}` : ""}`;
  }

  unmount() {
    this.gone = true;
    clearTimeout(this.timer);
    this.calls.abort();
    this.resize.disconnect();
    for (const leave of this.ways) leave();
  }
}

/** @param {Frame} frame @param {Route} route @returns {import("../screens.js").Screen} */
export function mount(frame, route) {
  return new Numbers(frame, route);
}
