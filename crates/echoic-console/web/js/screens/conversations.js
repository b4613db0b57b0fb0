/**
 * Conversations: find one among many.
 * @module
 */
import { isAbort, isMistake } from "../api.js";
import { Marked } from "../conversations/marked.js";
import { Minimap } from "../conversations/minimap.js";
import { conversationsParts } from "../conversations/parts.js";
import { ConversationRow } from "../conversations/row.js";
import { ConversationSource } from "../conversations/source.js";
import { Tabs } from "../conversations/tabs.js";
import { Updates } from "../conversations/updates.js";
import { append, el, fill, setText } from "../dom.js";
import { count, counted, shellQuote, storeOption } from "../format.js";
import { icon, showError } from "../icons.js";
import { register } from "../keys.js";
import { awaitLine, helloCard } from "../live/hello.js";
import { current, go, href, setParams } from "../router.js";
import { Rows } from "../rows.js";
import { helloSender } from "../send.js";
import { stream } from "../stream.js";
import { mount as mountOne } from "./conversation.js";

/** @typedef {import("../types.js").Conversation} Conversation */
/** @typedef {import("../types.js").Conversations} Changes */
/** @typedef {import("../screens.js").Frame} Frame */
/** @typedef {import("../router.js").Route} Route */

/** A search that takes longer is told, in ms. */
const SLOW = 150;
/** Pause before a call that failed is made again, in ms. */
const AGAIN = 1000;
/** Durations of open conversations are drawn, and their bytes asked for, so often, in ms. */
const TICK = 1000;
/** Screen readers get a line at most so often, in ms. */
const SAY_EVERY = 5000;

/** Where the reader left the list: it opens there again. @type {{q: string, oldestFirst: boolean, key: number} | null} */
let left = null;

class ConversationsScreen {
  /** @param {Frame} frame @param {Route} route */
  constructor(frame, route) {
    this.frame = frame;
    this.q = "";
    this.oldestFirst = false;
    /** @type {ConversationSource | null} */
    this.source = null;
    /** @type {Rows<Conversation> | null} */
    this.rows = null;
    this.skew = 0;
    /** @type {Updates | null} */
    this.updates = null;
    this.searching = false;
    this.said = 0;
    this.gone = false;
    document.title = "Conversations · echoic";
    this.parts = conversationsParts({ stopOrGo: () => this.#stopOrGo(), turn: () => this.#turn(), markAll: () => this.#markAll() });
    this.tabs = new Tabs();
    this.map = new Minimap(() => ({ oldest: this.frame.info()?.store.oldest_us ?? null, now: this.#now() }), (from, to) => this.#selectTimes(from, to));
    this.marked = new Marked({
      mayLabel: () => this.#mayLabel(),
      q: () => this.q,
      changed: (ids) => this.#redraw(ids),
      labelled: (ids) => {
        this.#redraw(ids);
        void this.tabs.load();
      },
    });
    this.#build();
    this.ways = this.#subscribe();
    void this.#start(route);
  }

  #build() {
    const { parts } = this;
    this.#showOrder();
    const bar = el("div", { class: "bar" }, this.tabs.node, el("span", { class: "push" }), parts.found, parts.meter, parts.stop, this.map.picker);
    append(parts.list, bar, this.map.node, this.marked.node, parts.grid, parts.nothing, parts.foot);
    fill(this.frame.main, el("h1", { class: "sr" }, "Conversations"), parts.first, parts.list);
  }

  #subscribe() {
    const group = "List";
    const tick = setInterval(() => this.#tick(), TICK);
    const say = setInterval(() => this.#say(), SAY_EVERY);
    return [
      () => clearInterval(tick),
      () => clearInterval(say),
      stream.subscribe("conversations", (/** @type {Changes} */ changes) => {
        this.said += changes.opened.length;
        this.updates?.changes(changes);
      }),
      stream.subscribe("batch", (/** @type {import("../types.js").Batch} */ batch) => this.updates?.batch(batch)),
      stream.subscribe("gap", () => void this.updates?.catchUp()),
      stream.subscribe("hello", (/** @type {import("../types.js").Hello} */ { seq }) => {
        // A stream that begins at 0 though rows are known is of another record.
        if (seq === 0 && (this.rows?.newestKey() ?? 0) > 0) void this.#load();
        // Of what was missed, the stream tells the exchanges only.
        else if (!stream.paused) void this.updates?.catchUp();
      }),
      stream.subscribe("resume", () => void this.updates?.catchUp()),
      stream.subscribe("labels", (/** @type {{conversation: number | null}} */ { conversation }) => {
        if (conversation !== null) this.updates?.ask([conversation]);
      }),
      register(
        { keys: "j", does: "Next row", group, run: () => this.rows?.move(1) },
        { keys: "k", does: "Row before", group, run: () => this.rows?.move(-1) },
        { keys: "G", does: "Newest, and follow", group, run: () => this.rows?.toNewest() },
        { keys: "Enter", does: "Open the row", group, run: () => this.rows?.openCurrent() },
        { keys: "x", does: "Mark the row", group, run: () => this.#mark() },
        { keys: "e", does: "Export the marked, or all that the filter selects", group, run: () => this.#export() },
        { keys: "t", does: "Tag the marked, or the row", group, run: () => void this.marked.editTags(this.rows?.current()) },
        { keys: "Escape", does: "Unmark all", group, run: () => this.#escape() },
      ),
    ];
  }

  // ---- what is loaded

  /** @param {Route} route */
  async #start(route) {
    try {
      const info = await this.frame.refreshInfo();
      this.skew = info.now_us - Date.now() * 1000;
    } catch (error) {
      if (!isAbort(error)) this.#fail(error);
    }
    if (this.gone) return;
    this.update(route);
    void this.tabs.load();
  }

  /** Shows the list for the filter and order of the address. */
  async #load() {
    this.source?.abort();
    this.rows?.destroy();
    for (const old of this.parts.grid.querySelectorAll(".newbar, .rows-body")) old.remove();
    this.parts.grid.removeAttribute("aria-activedescendant");
    const { q } = this;
    const source = new ConversationSource(q, this.oldestFirst, (searching, left) => this.source === source && this.#progress(searching, left));
    this.source = source;
    const rows = this.#makeRows(source);
    this.rows = rows;
    const updates = new Updates(source, rows, { marked: this.marked.all, now: () => this.#now(), added: () => this.#showEmpty() });
    this.updates = updates;
    this.#showOrder();
    this.#progress(false, 0);
    this.parts.nothing.hidden = true;
    const slow = setTimeout(() => this.source === source && this.#progress(true, 0), SLOW);
    void this.map.load(q);
    try {
      updates.ready = rows.show(source);
      await updates.ready;
      if (this.source !== source) return;
      this.frame.filter.ok();
      if (left && left.q === q && left.oldestFirst === this.oldestFirst) await rows.goTo(left.key);
      left = null;
      if (this.source !== source) return;
      if (rows.below === 0) this.#progress(false, 0);
      this.#showEmpty();
    } catch (error) {
      if (this.source !== source || isAbort(error)) return;
      this.#progress(false, 0);
      if (isMistake(error)) this.frame.filter.wrong(error);
      else {
        this.#fail(error);
        setTimeout(() => this.source === source && !this.gone && void this.#load(), AGAIN);
      }
    } finally {
      clearTimeout(slow);
    }
  }

  /** @param {ConversationSource} source */
  #makeRows(source) {
    return new Rows(/** @type {import("../rows.js").RowsOptions<Conversation>} */ ({
      scroller: this.frame.main,
      grid: this.parts.grid,
      head: this.parts.head,
      create: () => new ConversationRow({
        isMarked: (conv) => this.marked.has(conv),
        now: () => this.#now(),
        q: () => this.q,
        mark: (conversation) => this.marked.toggle(conversation),
      }),
      keyOf: (conversation) => source.keyOf(conversation),
      open: (conversation) => {
        left = { q: this.q, oldestFirst: this.oldestFirst, key: source.keyOf(conversation) };
        go(href(`conversations/${conversation.conv}`, { q: this.q, order: this.oldestFirst ? "oldest" : null }));
      },
      one: "conversation",
    }));
  }

  #now() {
    return Date.now() * 1000 + this.skew;
  }

  // ---- what happens

  /** Durations of open conversations, and what part of the record is in view. */
  #tick() {
    const { rows } = this;
    if (!rows || stream.paused) return;
    this.updates?.tick();
    const times = rows.inView().map(({ opened_us }) => opened_us);
    if (times.length > 0) this.map.mark(Math.min(...times), Math.max(...times));
    this.#showFoot();
  }

  #say() {
    if (this.said > 0) this.frame.say(`${counted(this.said, "conversation")} opened in 5 s`);
    this.said = 0;
  }

  // ---- what is shown

  /** @param {boolean} searching @param {number} left ids that are not searched */
  #progress(searching, left) {
    const { source } = this;
    const { found, meter, stop } = this.parts;
    this.searching = searching;
    const stopped = source?.stopped === true && left > 0;
    const n = this.rows?.length ?? 0;
    setText(found, stopped ? `Stopped: ${count(n)} found, ${count(left)} not searched` : n === 0 ? "Searching, nothing so far" : `${count(n)} so far, still searching`);
    found.hidden = !searching && !stopped;
    stop.hidden = found.hidden;
    const word = stopped ? "Go on" : "Stop";
    // The same is not drawn again: a press on it would be lost.
    if (stop.textContent !== word) fill(stop, icon(stopped ? "play" : "x"), el("span", { class: "lbl" }, word));
    const all = this.frame.info()?.store.conversations ?? 0;
    meter.hidden = !searching || left === 0 || all === 0;
    meter.value = all > 0 ? Math.max(0, Math.min(100, 100 - (left / all) * 100)) : 0;
    if (stopped) {
      // What was found stays; the list ends there.
      if (this.rows) this.rows.below = 0;
      this.rows?.draw();
    }
    this.#showFoot();
  }

  #stopOrGo() {
    const { source, rows } = this;
    if (!source || !rows) return;
    if (!source.stopped) {
      source.stop();
      this.#showEmpty();
      return;
    }
    source.stopped = false;
    rows.below = 1;
    this.#progress(true, source.left);
    if (rows.length === 0) void this.#load();
    else rows.draw();
  }

  #showOrder() {
    const { order } = this.parts;
    const way = this.oldestFirst ? "oldest first" : "newest first";
    fill(order, "Start", icon(this.oldestFirst ? "up" : "down"), el("span", { class: "sr" }, `, ${way}: turn the order`));
    order.parentElement?.setAttribute("aria-sort", this.oldestFirst ? "ascending" : "descending");
  }

  #showEmpty() {
    const info = this.frame.info();
    const { rows } = this;
    const { nothing, first, list } = this.parts;
    if (!info || !rows) return;
    const none = rows.length === 0 && !this.searching;
    const empty = none && this.q === "";
    if (empty && first.hidden) fill(first, helloCard(info, helloSender(this.frame, info)), awaitLine(info));
    first.hidden = !empty;
    list.hidden = empty;
    this.frame.main.classList.toggle("first-run", empty);
    const clearFilter = el("button", { class: "btn", type: "button", onclick: () => setParams({ q: null }) }, "Show all");
    if (none && !empty) fill(nothing, "No conversation matches so far. One that does from now on appears here.", clearFilter);
    nothing.hidden = !none || empty;
    this.#showFoot();
    rows.draw();
  }

  #showFoot() {
    const { rows } = this;
    if (!rows) return;
    const all = this.frame.info()?.store.conversations ?? 0;
    const loaded = rows.length;
    const done = rows.isWhole;
    const known = this.q === "" ? Math.max(all, loaded) : loaded;
    const text = this.q === "" || done ? counted(known, "conversation") : `${counted(known, "conversation")} found so far`;
    setText(this.parts.footText, this.searching && this.source ? `${text}, ${count(this.source.left)} left to search` : text);
    this.tabs.draw({ q: this.q, all: Math.max(all, this.q === "" ? loaded : 0), found: done ? count(loaded) : `${count(loaded)}+` });
  }

  /** @param {number[]} ids */
  #redraw(ids) {
    const { rows, marked, source } = this;
    for (const conv of ids) if (source) rows?.update(source.keyOf({ conv }));
    const shown = rows?.inView() ?? [];
    this.parts.allBox.checked = shown.length > 0 && shown.every(({ conv }) => marked.has(conv));
  }

  /** @param {unknown} error */
  #fail(error) {
    showError(this.parts.nothing, error);
  }

  // ---- what the reader does

  #mayLabel() {
    const info = this.frame.info();
    return !!info && info.features.labels && !info.readonly;
  }

  #mark() {
    const row = this.rows?.current();
    if (row) this.marked.toggle(row);
  }

  #markAll() {
    this.marked.toggleAll(this.rows?.inView() ?? []);
  }

  /** Opens the export menu of the marked; without any, all of the filter. */
  #export() {
    const { marked } = this;
    if (marked.all.size > 0) marked.export.open();
    else {
      const link = el("a", { href: marked.exports()[0]?.href, download: "" });
      link.click();
    }
  }

  #escape() {
    if (this.marked.all.size === 0) return false;
    this.marked.clear();
    return true;
  }

  #turn() {
    setParams({ order: this.oldestFirst ? null : "oldest" });
  }

  /** @param {number} from @param {number} to in µs */
  #selectTimes(from, to) {
    const iso = (/** @type {number} */ us) => `${new Date(us / 1000).toISOString().slice(0, 19)}Z`;
    const rest = this.q.replace(/(^|\s)(since|after|before):\S+/g, " ").trim();
    setParams({ q: `${rest} after:${iso(from)} before:${iso(to + 1e6)}`.trim() });
  }

  /** @param {Route} route */
  update(route) {
    const q = route.params.get("q") ?? "";
    const oldestFirst = route.params.get("order") === "oldest";
    if (this.rows && q === this.q && oldestFirst === this.oldestFirst) return;
    this.q = q;
    this.oldestFirst = oldestFirst;
    void this.#load();
  }

  command() {
    const store = storeOption(this.frame.info());
    return `echoic log${store}${this.q ? ` ${shellQuote(this.q)}` : ""}`;
  }

  unmount() {
    this.gone = true;
    for (const leave of this.ways) leave();
    this.source?.abort();
    this.map.destroy();
    this.rows?.destroy();
    this.frame.main.classList.remove("first-run");
  }
}

/** Shows the list, or the conversation that the address names. @param {Frame} frame @param {Route} route @returns {import("../screens.js").Screen} */
export function mount(frame, route) {
  if (/^\d+$/.test(route.arg)) return mountOne(frame, route);
  return new ConversationsScreen(frame, { ...route, params: current().params });
}
