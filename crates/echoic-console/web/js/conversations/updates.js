/**
 * Keeps a list of conversations as the record is: adds those that open, changes those that speak or end, and asks for what the
 * events leave out. It goes with its list: another filter or order has another one.
 * @module
 */
import { isMistake } from "../api.js";
import { pause } from "../dom.js";

/** @typedef {import("../types.js").Conversation} Conversation */
/** @typedef {import("../rows.js").Rows<Conversation>} Rows */
/** @typedef {import("./source.js").ConversationSource} ConversationSource */

/** Conversations that changed are asked for at most so often, in ms. */
const ASK_EVERY = 500;
/** The same while more of them wait, in ms. */
const ASK_SOON = 50;
/** Most conversations asked for at once. */
const ASKED_MOST = 100;
/** Most that wait to be asked for; beyond, rows are asked for as after a gap. */
const CANDIDATES_MOST = 2000;
/** Most pages of rows that came meanwhile; beyond, the list is loaded again. */
const PAGES_MOST = 4;
/** A conversation that was silent so long flashes when it speaks, in ms. */
const QUIET = 10_000;
/** Conversations of which the last sign of life is remembered. */
const REMEMBERED = 2000;

export class Updates {
  /**
   * @param {ConversationSource} source @param {Rows} rows
   * @param {{marked: Map<number, Conversation>, now: () => number, added: () => void}} around `marked` are kept as they are too;
   *   `added` is called after newer rows were
   */
  constructor(source, rows, { marked, now, added }) {
    this.source = source;
    this.rows = rows;
    this.marked = marked;
    this.now = now;
    this.added = added;
    /** Settles once the first rows are there. @type {Promise<void> | undefined} */
    this.ready = undefined;
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
  }

  /** @param {import("../types.js").Conversations} changes */
  changes({ opened, half, ended, more }) {
    const { rows, source } = this;
    for (const { conv } of [...opened, ...ended]) this.#seen(conv);
    if (more > 0) void this.catchUp();
    // One event may tell both that a conversation opened and that it ended, so its row must exist before it changes.
    if (source.q === "" && !source.oldestFirst) this.#push([...opened, ...ended.filter(({ conv }) => !opened.some((one) => one.conv === conv) && !this.#find(conv))]);
    for (const { conv, t_us } of half) {
      rows.update(source.keyOf({ conv }), (row) => {
        row.half_us = t_us;
        if (row.state === "open") row.state = "half-closed";
      });
    }
    for (const conversation of ended) {
      this.spoke.delete(conversation.conv);
      this.#take(conversation);
    }
    if (source.q !== "") this.ask([...opened, ...ended].map(({ conv }) => conv).filter((conv) => !this.#find(conv)));
  }

  /** @param {import("../types.js").Batch} batch */
  batch({ exchanges, more }) {
    const { rows, source } = this;
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
      if (!row || row.exchanges < n) rows.update(source.keyOf({ conv }), (one) => (one.exchanges = Math.max(one.exchanges, n)), quiet);
    }
    // The event may have a part of the exchanges only.
    if (more > 0) for (const { conv, state } of rows.inView()) if (state !== "ended") this.spoke.add(conv);
    if (source.q !== "") this.ask(unknown);
  }

  /** Draws how long the open conversations in view have lasted, and asks for the bytes of those that spoke. */
  tick() {
    const open = this.rows.inView().filter(({ state }) => state !== "ended");
    for (const conversation of open) this.rows.update(this.source.keyOf(conversation));
    // Others are asked for when they come into view.
    this.ask(open.map(({ conv }) => conv).filter((conv) => this.spoke.delete(conv)));
  }

  /** Asks which of these the filter selects; at most a few times a second. @param {number[]} ids */
  ask(ids) {
    for (const id of ids.slice(0, ASKED_MOST)) this.candidates.add(id);
    if (!this.asking && this.candidates.size > 0) void this.#answer();
  }

  async #answer() {
    const { source } = this;
    this.asking = true;
    while (this.candidates.size > 0 && !source.isGone) {
      const ids = [...this.candidates].slice(-ASKED_MOST);
      for (const id of ids) this.candidates.delete(id);
      try {
        const found = await source.among(ids);
        for (const conversation of found) this.#take(conversation);
        if (!source.oldestFirst) this.#push(found.filter(({ conv }) => !this.#find(conv)));
      } catch (error) {
        if (!isMistake(error)) for (const id of ids) this.candidates.add(id);
      }
      if (this.candidates.size > CANDIDATES_MOST) {
        this.behind = Math.min(...this.candidates) - 1;
        this.candidates.clear();
        void this.catchUp();
      }
      await pause(this.candidates.size > 0 ? ASK_SOON : ASK_EVERY);
    }
    this.asking = false;
  }

  /** After a pause or a gap: rows that came meanwhile, and the present state of those in view. */
  async catchUp() {
    // Rows that come until then do not hide those that are missing below them.
    this.behind ??= this.rows.newestKey();
    if (this.catching) return;
    this.catching = true;
    while (this.behind !== null && !this.source.isGone) {
      const after = this.behind;
      this.behind = null;
      await this.#newer(after).catch((error) => {
        if (!isMistake(error)) this.behind = after;
      });
      await pause(ASK_EVERY);
    }
    this.catching = false;
  }

  /** @param {number} after newest row below which none is missing; 0 before there are rows */
  async #newer(after) {
    const { rows, source } = this;
    await this.ready;
    this.ask(rows.inView().filter(({ state }) => state !== "ended").map(({ conv }) => conv));
    if (source.oldestFirst) return;
    let from = after || rows.newestKey();
    for (let n = 0; n < PAGES_MOST; n++) {
      const page = await source.newer(from);
      this.#push(page.rows);
      if (page.end) return;
      from = page.rows[0]?.conv ?? from;
    }
    const [place] = rows.atEdge() ? [] : rows.inView();
    await rows.show(source);
    if (place) await rows.goTo(place.conv);
  }

  /** Adds conversations that opened. @param {Conversation[]} conversations */
  #push(conversations) {
    const { rows } = this;
    const newest = rows.newestKey();
    const fresh = conversations.filter(({ conv }) => conv > newest).sort((a, b) => b.conv - a.conv);
    rows.push(fresh);
    for (const conversation of conversations) if (conversation.conv <= newest) rows.insert(conversation);
    if (fresh.length > 0) this.added();
  }

  /** Shows a conversation as it is now, if it is in the list. @param {Conversation} conversation */
  #take(conversation) {
    const { conv, tags, note, state } = conversation;
    // An answer that left the server before the end does not open it again.
    const change = (/** @type {Conversation} */ row) => Object.assign(row, row.state === "ended" && state !== "ended" ? { tags, note } : conversation);
    this.rows.update(this.source.keyOf(conversation), change);
    const marked = this.marked.get(conv);
    if (marked) change(marked);
  }

  /** @param {number} conv */
  #find(conv) {
    return this.rows.find(this.source.keyOf({ conv }));
  }

  /** Notes a sign of life. Returns whether the conversation was quiet before. @param {number} conv */
  #seen(conv) {
    const { lastSeen } = this;
    const now = performance.now();
    const before = lastSeen.get(conv);
    lastSeen.delete(conv);
    lastSeen.set(conv, now);
    if (lastSeen.size > REMEMBERED) lastSeen.delete(/** @type {number} */ (lastSeen.keys().next().value));
    const opened = this.#find(conv)?.opened_us ?? this.now();
    return before === undefined ? this.now() - opened > QUIET * 1000 : now - before > QUIET;
  }
}
