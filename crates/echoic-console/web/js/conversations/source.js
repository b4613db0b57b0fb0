/**
 * The conversations that a filter selects, in pages by key. A search that takes long gives what it has found so far, and can be
 * stopped and taken up again.
 * @module
 */
import { api } from "../api.js";

/** @typedef {import("../types.js").Conversation} Conversation */
/** @typedef {import("../types.js").Searched} Searched */
/** @typedef {{rows: Conversation[], end: boolean}} Page */

/** Rows of a page. */
export const PAGE = 200;
/** Keys count down in a list from the oldest to the newest, since a list runs from its greatest key. */
const TURNED = 2 ** 50;

export class ConversationSource {
  /**
   * @param {string} q @param {boolean} oldestFirst
   * @param {(searching: boolean, left: number) => void} onProgress
   */
  constructor(q, oldestFirst, onProgress) {
    this.q = q;
    this.oldestFirst = oldestFirst;
    this.onProgress = onProgress;
    this.aborted = new AbortController();
    /** The search was stopped by the reader: the list ends with what was found. */
    this.stopped = false;
    /** Ids not searched when it was stopped. */
    this.left = 0;
  }

  /** Key of a conversation in the list. @param {{conv: number}} conversation */
  keyOf({ conv }) {
    return this.oldestFirst ? TURNED - conv : conv;
  }

  /** Conversation of a key. @param {number} key */
  idOf(key) {
    return this.oldestFirst ? TURNED - key : key;
  }

  /** Whether its list is gone. */
  get isGone() {
    return this.aborted.signal.aborted;
  }

  /** Gives up what is under way, for good. */
  abort() {
    this.aborted.abort();
  }

  /** Ends the search with what was found. */
  stop() {
    this.stopped = true;
    this.onProgress(false, this.left);
  }

  /** @param {number} [before] @returns {Promise<Page>} */
  older(before) {
    return this.#page(this.oldestFirst ? "after" : "before", before === undefined ? undefined : this.idOf(before));
  }

  /** @param {number} after @returns {Promise<Page>} */
  async newer(after) {
    const page = await this.#page(this.oldestFirst ? "before" : "after", this.idOf(after));
    page.rows.reverse();
    return page;
  }

  /** The last row of the list. @returns {Promise<Conversation | undefined>} */
  async oldest() {
    const direction = this.oldestFirst ? {} : { after: 0 };
    return (await this.#get({ ...direction, limit: 1, budget: "1s" })).conversations[0];
  }

  /** A page, or what one call of a long search has found, if that is something. @param {"before" | "after"} direction @param {number} [from] */
  async #page(direction, from) {
    let next = from ?? (direction === "after" ? 0 : undefined);
    for (;;) {
      if (this.stopped) return { rows: [], end: true };
      const answer = await this.#get({ [direction]: next, limit: PAGE });
      /** @type {Conversation[]} */
      const rows = answer.conversations;
      /** @type {Searched} */
      const searched = answer.searched;
      const searching = !searched.done && answer.next !== null;
      if (direction === (this.oldestFirst ? "after" : "before")) {
        this.left = searched.left ?? 0;
        this.onProgress(searching && !this.stopped, this.left);
      }
      if (rows.length > 0 || !searching) return { rows, end: answer.next === null };
      next = answer.next;
    }
  }

  /** @param {import("../api.js").Query} query */
  #get(query) {
    return api.get("/conversations", { q: this.q, ...query }, this.aborted.signal);
  }

  /**
   * Those of some conversations that the filter selects, as they are now.
   * @param {number[]} ids @returns {Promise<Conversation[]>}
   */
  async among(ids) {
    const rest = this.q.replace(/(^|\s)(sort|limit):\S+/g, " ").trim();
    const q = `conv:${ids.join(",")} ${/\bOR\b/.test(rest) ? `(${rest})` : rest}`;
    /** @type {Conversation[]} */
    const found = [];
    let before = null;
    do {
      const answer = await api.get("/conversations", { q, before, limit: PAGE, budget: "1s" }, this.aborted.signal);
      found.push(...answer.conversations);
      before = answer.searched.done ? null : answer.next;
    } while (before !== null);
    return found.filter(({ conv }) => ids.includes(conv));
  }
}

/** Ids as a value of `conv:`, with ranges. @param {number[]} ids */
export function ranges(ids) {
  const sorted = [...ids].sort((a, b) => a - b);
  /** @type {[number, number][]} */
  const parts = [];
  for (const id of sorted) {
    const last = parts.at(-1);
    if (last && id === last[1] + 1) last[1] = id;
    else parts.push([id, id]);
  }
  return parts.map(([from, to]) => (from === to ? String(from) : `${from}..${to}`)).join(",");
}
