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
import { append, el, fill, pause, setText } from "../dom.js";
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

/** Conversations that changed are asked for at most so often, in ms. */
const ASK_EVERY = 500;
/** Most conversations asked for at once. */
const ASKED_MOST = 100;
/** Most pages of rows that came meanwhile; beyond, the list is loaded again. */
const PAGES_MOST = 4;
/** A conversation that was silent so long flashes when it speaks, in ms. */
const QUIET = 10_000;
/** A search that takes longer is told, in ms. */
const SLOW = 150;
/** Pause before a call that failed is made again, in ms. */
const AGAIN = 1000;
/** Durations of open conversations are drawn, and their bytes asked for, so often, in ms. */
const TICK = 1000;
/** Screen readers get a line at most so often, in ms. */
const SAY_EVERY = 5000;
/** Conversations of which the last sign of life is remembered. */
const REMEMBERED = 2000;

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
    /** When each conversation was last heard of, in ms. @type {Map<number, number>} */
    this.lastSeen = new Map();
    /** Open conversations that have spoken since their bytes were asked for. @type {Set<number>} */
    this.spoke = new Set();
    /** Ids that may have become rows of the filter. @type {Set<number>} */
    this.candidates = new Set();
    this.asking = false;
    /** Newest row below which none is missing, while there may be others to ask for. @type {number | null} */
    this.behind = null;
    this.catching = false;
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
      stream.subscribe("conversations", (/** @type {Changes} */ changes) => this.#changes(changes)),
      stream.subscribe("batch", (/** @type {import("../types.js").Batch} */ batch) => this.#batch(batch)),
      stream.subscribe("gap", () => void this.#catchUp()),
      stream.subscribe("hello", (/** @type {import("../types.js").Hello} */ { seq }) => {
        // A stream that begins at 0 though rows are known is of another record.
        if (seq === 0 && (this.rows?.newestKey() ?? 0) > 0) void this.#load();
        // Of what was missed, the stream tells the exchanges only.
        else if (!stream.paused) void this.#catchUp();
      }),
      stream.subscribe("resume", () => void this.#catchUp()),
      stream.subscribe("labels", (/** @type {{conversation: number | null}} */ { conversation }) => {
        if (conversation !== null) this.#ask([conversation]);
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
    this.behind = null;
    this.candidates.clear();
    this.spoke.clear();
    const rows = this.#makeRows(source);
    this.rows = rows;
    this.#showOrder();
    this.#progress(false, 0);
    this.parts.nothing.hidden = true;
    const slow = setTimeout(() => this.source === source && this.#progress(true, 0), SLOW);
    void this.map.load(q);
    try {
      this.ready = rows.show(source);
      await this.ready;
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

  /** @param {Changes} changes */
  #changes({ opened, half, ended, more }) {
    this.said += opened.length;
    for (const { conv } of [...opened, ...ended]) this.#seen(conv);
    if (more > 0) void this.#catchUp();
    // One event may tell both that a conversation opened and that it ended, so its row must exist before it changes.
    if (this.q === "" && !this.oldestFirst) this.#push([...opened, ...ended.filter(({ conv }) => !opened.some((one) => one.conv === conv) && !this.#find(conv))]);
    for (const { conv, t_us } of half) {
      this.rows?.update(this.#key(conv), (row) => {
        row.half_us = t_us;
        if (row.state === "open") row.state = "half-closed";
      });
    }
    for (const conversation of ended) {
      this.spoke.delete(conversation.conv);
      this.#take(conversation);
    }
    if (this.q !== "") this.#ask([...opened, ...ended].map(({ conv }) => conv).filter((conv) => !this.#find(conv)));
  }

  /** @param {import("../types.js").Batch} batch */
  #batch({ exchanges, more }) {
    /** @type {Map<number, number>} */
    const latest = new Map();
    for (const { conv, n } of exchanges) latest.set(conv, Math.max(n, latest.get(conv) ?? 0));
    const unknown = [];
    for (const [conv, n] of latest) {
      const row = this.#find(conv);
      const quiet = this.#seen(conv);
      if (!row) unknown.push(conv);
      else if (row.state !== "ended") this.spoke.add(conv);
      // A row that is being loaded takes it too.
      if (!row || row.exchanges < n) this.rows?.update(this.#key(conv), (one) => (one.exchanges = Math.max(one.exchanges, n)), quiet);
    }
    // The event may have a part of the exchanges only.
    if (more > 0) for (const { conv, state } of this.rows?.inView() ?? []) if (state !== "ended") this.spoke.add(conv);
    if (this.q !== "") this.#ask(unknown);
  }

  /** Notes a sign of life. Returns whether the conversation was quiet before. @param {number} conv */
  #seen(conv) {
    const now = performance.now();
    const before = this.lastSeen.get(conv);
    this.lastSeen.delete(conv);
    this.lastSeen.set(conv, now);
    if (this.lastSeen.size > REMEMBERED) this.lastSeen.delete(/** @type {number} */ (this.lastSeen.keys().next().value));
    const opened = this.#find(conv)?.opened_us ?? this.#now();
    return before === undefined ? this.#now() - opened > QUIET * 1000 : now - before > QUIET;
  }

  /** @param {number} conv */
  #key(conv) {
    return this.source?.keyOf(/** @type {Conversation} */ ({ conv })) ?? conv;
  }

  /** @param {number} conv */
  #find(conv) {
    return this.rows?.find(this.#key(conv));
  }

  /** Shows a conversation as it is now, if it is in the list. @param {Conversation} conversation */
  #take(conversation) {
    const { conv, tags, note, state } = conversation;
    // An answer that left the server before the end does not open it again.
    const change = (/** @type {Conversation} */ row) => Object.assign(row, row.state === "ended" && state !== "ended" ? { tags, note } : conversation);
    this.rows?.update(this.#key(conv), change);
    const marked = this.marked.all.get(conv);
    if (marked) change(marked);
  }

  /** Adds conversations that opened. @param {Conversation[]} conversations */
  #push(conversations) {
    const { rows } = this;
    if (!rows) return;
    const newest = rows.newestKey();
    const fresh = conversations.filter(({ conv }) => conv > newest).sort((a, b) => b.conv - a.conv);
    rows.push(fresh);
    for (const conversation of conversations) if (conversation.conv <= newest) rows.insert(conversation);
    if (fresh.length > 0) this.#showEmpty();
  }

  /** Asks which of these the filter selects; at most a few times a second. @param {number[]} ids */
  #ask(ids) {
    for (const id of ids.slice(0, ASKED_MOST)) this.candidates.add(id);
    if (!this.asking && this.candidates.size > 0) void this.#answer();
  }

  async #answer() {
    this.asking = true;
    while (this.candidates.size > 0 && !this.gone) {
      const ids = [...this.candidates].slice(-ASKED_MOST);
      this.candidates.clear();
      const { source } = this;
      try {
        const found = (await source?.among(ids)) ?? [];
        if (source === this.source) {
          for (const conversation of found) this.#take(conversation);
          if (!this.oldestFirst) this.#push(found.filter(({ conv }) => !this.#find(conv)));
        }
      } catch (error) {
        if (!isMistake(error)) for (const id of ids) this.candidates.add(id);
      }
      await pause(ASK_EVERY);
    }
    this.asking = false;
  }

  /** After a pause or a gap: rows that came meanwhile, and the present state of those in view. */
  async #catchUp() {
    // Rows that come until then do not hide those that are missing below them.
    this.behind ??= this.rows?.newestKey() ?? 0;
    if (this.catching) return;
    this.catching = true;
    while (this.behind !== null && !this.gone) {
      const after = this.behind;
      this.behind = null;
      await this.#newer(after).catch((error) => {
        if (!isMistake(error)) this.behind = after;
      });
      await pause(ASK_EVERY);
    }
    this.catching = false;
  }

  /** @param {number} after the newest of the rows of which none is missing; 0 before there are any */
  async #newer(after) {
    const { rows, source } = this;
    if (!rows || !source) return;
    await this.ready;
    this.#ask(rows.inView().filter(({ state }) => state !== "ended").map(({ conv }) => conv));
    let from = after || rows.newestKey();
    for (let n = 0; n < PAGES_MOST; n++) {
      if (this.source !== source || this.oldestFirst) return;
      const page = await source.newer(from);
      if (this.source === source) this.#push(page.rows);
      if (page.end) return;
      from = page.rows[0]?.conv ?? from;
    }
    const [place] = rows.atEdge() ? [] : rows.inView();
    await rows.show(source);
    if (place) await rows.goTo(place.conv);
  }

  /** Durations of open conversations, and what part of the record is in view. */
  #tick() {
    const { rows } = this;
    if (!rows || stream.paused) return;
    const shown = rows.inView();
    const open = shown.filter(({ state }) => state !== "ended").map(({ conv }) => conv);
    for (const conv of open) rows.update(this.#key(conv));
    // Others are asked for when they come into view.
    this.#ask(open.filter((conv) => this.spoke.delete(conv)));
    const times = shown.map(({ opened_us }) => opened_us);
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
    for (const id of ids) this.rows?.update(this.#key(id));
    const { rows, marked } = this;
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
