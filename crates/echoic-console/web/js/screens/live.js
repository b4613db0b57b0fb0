/**
 * Live: the three tiers at work, and the exchanges as they happen.
 * @module
 */
import { isAbort, isMistake } from "../api.js";
import { append, el, fill, messageOf, pause, setText } from "../dom.js";
import { count, counted, shellQuote, storeOption } from "../format.js";
import { icon } from "../icons.js";
import { register } from "../keys.js";
import { Explain } from "../live/explain.js";
import { Figures } from "../live/figures.js";
import { awaitLine, helloCard } from "../live/hello.js";
import { exchangeHead, ExchangeRow } from "../live/row.js";
import { Tiers } from "../live/tiers.js";
import { Pages } from "../pages.js";
import { go, href, setParams } from "../router.js";
import { Rows } from "../rows.js";
import { hasScreen } from "../screens.js";
import { helloSender } from "../send.js";
import { stream } from "../stream.js";

/** @typedef {import("../types.js").Exchange} Exchange */
/** @typedef {import("../types.js").Batch} Batch */
/** @typedef {import("../rows.js").Gap} Gap */
/** @typedef {import("../screens.js").Frame} Frame */
/** @typedef {import("../router.js").Route} Route */

/** A filtered list asks for newer rows at most so often, in ms. */
const ASK_EVERY = 200;
/** Screen readers get a line at most so often, in ms. */
const SAY_EVERY = 5000;
/** After a burst the list begins with its last rows, once it has been quiet so long, in ms. */
const QUIET = 400;
/** A search that takes longer is told, in ms. */
const SLOW = 150;
/** More missing rows than this become a gap. */
const MISSED = 300;
/** The tiers are loaded again at most so often, in ms. */
const TIERS_EVERY = 5000;
/** Pause before a call that failed is made again, in ms. */
const AGAIN = 1000;
/** Bytes of each message that a row needs. */
const PREVIEW = 256;

class Live {
  /** @param {Frame} frame @param {Route} route */
  constructor(frame, route) {
    this.frame = frame;
    this.q = "";
    this.tiers = new Tiers(() => this.#reloadTiers());
    this.figures = new Figures();
    this.explain = new Explain();
    this.said = { exchanges: 0, odd: 0 };
    this.asking = false;
    this.askAgain = false;
    this.gone = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.quiet = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.again = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.reloading = undefined;
    /** Whether the list is shown. */
    this.loaded = false;
    /** @type {Pages<Exchange> | null} */
    this.pages = null;
    /** @type {string | undefined} */
    this.instance = undefined;
    this.main = frame.main;
    this.searching = el("span", { class: "out", hidden: true });
    this.meter = el("progress", { class: "meter", max: "100", "aria-label": "Searched", hidden: true });
    this.stopButton = el("button", { class: "btn quiet", type: "button", hidden: true, onclick: () => this.pages?.stop() }, icon("x"), "Stop");
    this.bar = el("div", { class: "bar" });
    this.head = exchangeHead();
    this.grid = el("div", { class: "rows live fill", role: "grid", "aria-label": "Exchanges", "aria-rowcount": "1" });
    this.nothing = el("p", { class: "await", role: "status", hidden: true });
    this.first = el("div", { class: "first", hidden: true });
    this.list = el("div", { class: "listing fill" });
    this.#build();
    this.rows = this.#makeRows();
    this.ways = this.#subscribe();
    void this.#load(route.params.get("q") ?? "");
    void this.#loadTiers();
    void this.figures.start();
  }

  #build() {
    const { bar, list, main } = this;
    append(bar, el("h2", {}, "Exchanges"), el("span", { class: "dim opt" }, "newest first"), el("span", { class: "push" }), this.searching,
      this.meter, this.stopButton, this.explain.button);
    append(this.grid, this.head);
    append(list, this.figures.node, this.explain.place, bar, this.grid, this.nothing);
    this.explain.button.hidden = true;
    fill(main, el("h1", { class: "sr" }, "Live"), this.tiers.summary, this.tiers.section, this.first, list);
  }

  #makeRows() {
    return new Rows(/** @type {import("../rows.js").RowsOptions<Exchange>} */ ({
      scroller: this.frame.main,
      grid: this.grid,
      head: this.head,
      create: () => new ExchangeRow(),
      keyOf: ({ id }) => id,
      open: hasScreen("conversations") ? ({ conv, n }) => go(href(`conversations/${conv}`, { at: n })) : undefined,
      one: "exchange",
    }));
  }

  #subscribe() {
    const timer = setInterval(() => this.#say(), SAY_EVERY);
    const { tiers, figures, rows } = this;
    return [
      () => clearInterval(timer),
      stream.subscribe("batch", (batch) => this.#batch(batch)),
      stream.subscribe("gap", (gap) => this.#gap(gap)),
      stream.subscribe("conversations", (event) => tiers.conversations(event)),
      stream.subscribe("endpoint", (endpoint) => tiers.endpoint(endpoint)),
      stream.subscribe("explain", (event) => this.explain.show(event)),
      stream.subscribe("tick", (tick) => {
        tiers.tick(tick);
        figures.tick(tick, this.frame.info()?.recorder != null);
      }),
      stream.subscribe("hello", (hello) => this.#hello(hello)),
      stream.subscribe("resume", () => this.#catchUp()),
      register(
        { keys: "j", does: "Next row", group: "List", run: () => rows.move(1) },
        { keys: "k", does: "Row before", group: "List", run: () => rows.move(-1) },
        { keys: "G", does: "Newest, and follow", group: "List", run: () => rows.toNewest() },
        ...(hasScreen("conversations") ? [{ keys: "Enter", does: "Open the row", group: "List", run: () => rows.openCurrent() }] : []),
      ),
    ];
  }

  /** Shows the list for a filter. @param {string} q */
  async #load(q) {
    this.q = q;
    this.pages?.stop();
    clearTimeout(this.again);
    const pages = /** @type {Pages<Exchange>} */ (new Pages("/exchanges", "exchanges", { q, preview: PREVIEW }, (progress) => this.#progress(progress)));
    this.pages = pages;
    this.loaded = false;
    const slow = setTimeout(() => this.#progress({ found: 0, left: null, searching: true }), SLOW);
    try {
      await this.rows.show(pages);
      if (this.pages !== pages) return;
      this.#progress({ found: 0, left: null, searching: false });
      this.loaded = true;
      this.frame.filter.ok();
      this.#showEmpty();
      if (this.askAgain) void this.#ask();
    } catch (error) {
      if (this.pages !== pages || isAbort(error)) return;
      this.#progress({ found: 0, left: null, searching: false });
      this.pages = null;
      if (isMistake(error)) this.frame.filter.wrong(error);
      else {
        this.#fail(error);
        this.again = setTimeout(() => void this.#load(this.q), AGAIN);
      }
    } finally {
      clearTimeout(slow);
    }
  }

  async #loadTiers() {
    try {
      const info = await this.frame.refreshInfo();
      this.tiers.set(info);
      // The hello may have come before this screen.
      this.instance ??= info.instance;
      this.explain.button.hidden = !info.features.control || info.readonly;
      this.#showEmpty();
    } catch (error) {
      if (this.gone) return;
      if (!this.tiers.store) this.#fail(error);
      this.#reloadTiers(AGAIN);
    }
  }

  /** Loads the tiers again: at once, or when the time since the last time is over. @param {number} [wait] the least, in ms */
  #reloadTiers(wait = 0) {
    this.reloading ??= setTimeout(() => {
      this.reloading = undefined;
      this.reloaded = Date.now();
      void this.#loadTiers();
    }, Math.max(wait, (this.reloaded ?? 0) + TIERS_EVERY - Date.now()));
  }

  /** @param {unknown} error */
  #fail(error) {
    setText(this.nothing, messageOf(error));
    this.nothing.hidden = false;
  }

  /** @param {import("../pages.js").Progress} progress */
  #progress({ found, left, searching }) {
    const info = this.frame.info();
    setText(this.searching, `${count(found)} so far, still searching`);
    this.searching.hidden = !searching;
    this.stopButton.hidden = !searching;
    const all = info?.store.exchanges ?? 0;
    this.meter.hidden = !searching || left === null || all === 0;
    if (left !== null && all > 0) this.meter.value = Math.max(0, Math.min(100, 100 - (left / all) * 100));
  }

  /** The first run, or a filter that finds nothing. */
  #showEmpty() {
    const info = this.frame.info();
    if (!info || !this.loaded) return;
    const none = this.rows.length === 0;
    const first = none && this.q === "" && !this.tiers.any;
    if (first && this.first.hidden) fill(this.first, helloCard(info, helloSender(this.frame, info)), awaitLine(info));
    if (!first) fill(this.first);
    this.first.hidden = !first;
    this.list.hidden = first;
    this.frame.main.classList.toggle("first-run", first);
    const all = el("button", { class: "btn", type: "button", onclick: () => setParams({ q: null }) }, "Show all");
    if (this.q === "") setText(this.nothing, "No exchange is in the store.");
    else if (none) fill(this.nothing, "Nothing matches so far. What matches from now on appears here.", all);
    this.nothing.hidden = !none || first;
    this.rows.draw();
  }

  /** @param {Batch} batch */
  #batch(batch) {
    this.tiers.batch(batch);
    this.said.exchanges += batch.exchanges.length + batch.more;
    this.said.odd += batch.exchanges.filter(({ outcome }) => outcome !== "ok").length;
    if (this.q !== "") {
      void this.#ask();
      return;
    }
    const newest = this.rows.newestKey();
    const missed = newest > 0 ? batch.first - newest - 1 : 0;
    if (missed > MISSED) {
      this.rows.push([{ gap: true, from: newest + 1, to: batch.first - 1, n: missed }]);
    } else if (missed > 0) {
      void this.#ask();
      return;
    }
    const fresh = batch.exchanges.filter(({ id }) => id > newest).sort((a, b) => b.id - a.id);
    this.rows.push(withGaps(fresh, Math.max(newest, batch.first - 1), batch.more, batch.last));
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.rows.fillTop(), QUIET);
    if (!this.first.hidden || !this.nothing.hidden) this.#showEmpty();
  }

  /** What the server did not send: exchanges, or only news of conversations. @param {{from: number | null, to: number | null, n: number}} gap */
  #gap({ from, to, n }) {
    this.#reloadTiers();
    if (from === null || to === null || n === 0) return;
    const newest = this.rows.newestKey();
    if (this.q !== "") void this.#ask();
    else if (to > newest) this.rows.push([{ gap: true, from: Math.max(from, newest + 1), to, n }]);
  }

  /** @param {import("../types.js").Hello} hello */
  #hello(hello) {
    // A stream that begins at 0 though rows are known is of another record.
    const newest = this.rows.newestKey();
    const replaced = hello.seq === 0 && newest > 0;
    if (this.instance !== undefined) {
      // The ends of conversations are not told again.
      this.#reloadTiers();
      // The stream goes on after the last exchange received, unless these are the ids of another record.
      const other = hello.seq < newest || this.frame.info()?.store.kind === "memory";
      if (replaced || (this.instance !== hello.instance && other)) void this.#load(this.q);
    }
    this.instance = hello.instance;
    void this.#ask();
  }

  /** After a pause: what came meanwhile. */
  #catchUp() {
    this.#reloadTiers();
    void this.#ask();
  }

  /** Asks for rows newer than those known; calls while one is under way, or the list is being loaded, become one more. */
  async #ask() {
    this.askAgain = true;
    const { pages } = this;
    if (this.asking || !this.loaded || !pages || stream.paused) return;
    this.asking = true;
    this.askAgain = false;
    let wait = ASK_EVERY;
    try {
      const newest = this.rows.newestKey();
      const page = await pages.newer(newest);
      if (this.pages === pages && newest === this.rows.newestKey() && !stream.paused) {
        this.rows.push(page.rows);
        this.askAgain ||= !page.end && page.rows.length > 0;
        this.#showEmpty();
      } else this.askAgain = true;
    } catch (error) {
      this.askAgain = true;
      if (!isAbort(error)) wait = AGAIN;
    }
    await pause(wait);
    this.asking = false;
    if (this.askAgain && !this.gone) void this.#ask();
  }

  /** One line for screen readers: never exchange by exchange. */
  #say() {
    const { exchanges, odd } = this.said;
    this.said = { exchanges: 0, odd: 0 };
    if (exchanges === 0) return;
    this.frame.say(`${counted(exchanges, "exchange")} in 5 s${odd > 0 ? `, ${count(odd)} not ok` : ""}`);
  }

  /** @param {Route} route */
  update(route) {
    const q = route.params.get("q") ?? "";
    if (q !== this.q) void this.#load(q);
  }

  command() {
    const store = storeOption(this.frame.info());
    return `echoic log -f${store}${this.q ? ` ${shellQuote(this.q)}` : ""}`;
  }

  unmount() {
    this.gone = true;
    for (const timer of [this.quiet, this.again, this.reloading]) clearTimeout(timer);
    for (const leave of this.ways) leave();
    this.pages?.stop();
    this.tiers.destroy();
    this.rows.destroy();
    this.frame.main.classList.remove("first-run");
  }
}

/**
 * Puts a gap where ids are missing because the event holds only a part.
 * @param {Exchange[]} fresh newest first @param {number} known the newest id known @param {number} more @param {number} last
 * @returns {(Exchange | Gap)[]}
 */
function withGaps(fresh, known, more, last) {
  if (more === 0) return fresh;
  /** @type {(Exchange | Gap)[]} */
  const rows = [];
  let above = last + 1;
  const ends = [...fresh.map(({ id }) => id), known];
  for (const [at, id] of ends.entries()) {
    const missing = above - id - 1;
    if (missing > 0) rows.push({ gap: true, from: id + 1, to: above - 1, n: missing });
    const row = fresh[at];
    if (row) rows.push(row);
    above = id;
  }
  return rows;
}

/** @param {Frame} frame @param {Route} route @returns {import("../screens.js").Screen} */
export function mount(frame, route) {
  return new Live(frame, route);
}
