/**
 * Pages of a list by key, and never by offset: `before=ID` goes to older rows, `after=ID` to newer ones.
 * @module
 */
import { api, isAbort } from "./api.js";

/** @typedef {import("./api.js").Query} Query */
/** @typedef {import("./types.js").Searched} Searched */
/**
 * A page of a list. `end`: there is nothing beyond it in this direction.
 * @template T
 * @typedef {{rows: T[], end: boolean}} Page
 */
/** How far a search is: rows found so far, and ids left to search. @typedef {{found: number, left: number | null, searching: boolean}} Progress */

/** Rows of a page. */
export const PAGE = 100;

/** @template T */
export class Pages {
  /**
   * @param {string} path of the API: `/exchanges`
   * @param {string} key of the rows in the answer: `exchanges`
   * @param {Query} query parameters of every call: `q`, `preview`
   * @param {(progress: Progress) => void} [onProgress] told while a search takes more than one call
   */
  constructor(path, key, query, onProgress = () => {}) {
    this.path = path;
    this.key = key;
    this.query = query;
    this.onProgress = onProgress;
    this.stopped = new AbortController();
  }

  /** Gives up what is under way, for good. */
  stop() {
    this.stopped.abort();
    this.onProgress({ found: 0, left: null, searching: false });
  }

  /** Rows older than the id, newest first; the newest of all without one. @param {number} [before] @returns {Promise<Page<T>>} */
  async older(before) {
    return this.#page("before", before);
  }

  /** Rows newer than the id, newest first. @param {number} after @returns {Promise<Page<T>>} */
  async newer(after) {
    const page = await this.#page("after", after);
    page.rows.reverse();
    return page;
  }

  /** The oldest row; undefined if there is none. @returns {Promise<T | undefined>} */
  async oldest() {
    const answer = await api.get(this.path, { ...this.query, after: 0, limit: 1 }, this.stopped.signal);
    return answer[this.key][0];
  }

  /**
   * One page, even if the server needs several calls to search for it.
   * @param {"before" | "after"} direction @param {number | undefined} from
   * @returns {Promise<Page<T>>}
   */
  async #page(direction, from) {
    /** @type {T[]} */
    const rows = [];
    let next = from;
    for (;;) {
      const query = { ...this.query, [direction]: next, limit: PAGE - rows.length };
      const answer = await this.#get(query);
      rows.push(...answer[this.key]);
      /** @type {Searched | undefined} */
      const searched = answer.searched;
      const searching = searched?.done === false && answer.next !== null && rows.length < PAGE;
      this.onProgress({ found: rows.length, left: searched?.left ?? null, searching });
      if (!searching) return { rows, end: answer.next === null || answer.next === undefined };
      next = answer.next;
    }
  }

  /** @param {Query} query */
  async #get(query) {
    try {
      return await api.get(this.path, query, this.stopped.signal);
    } catch (error) {
      if (!isAbort(error)) this.onProgress({ found: 0, left: null, searching: false });
      throw error;
    }
  }
}
