/**
 * Filters at hand: all, those open, those reset, and the tags in use. The one in the address is marked.
 * @module
 */
import { api } from "../api.js";
import { learn } from "../completion.js";
import { el, fill } from "../dom.js";
import { count } from "../format.js";
import { icon } from "../icons.js";
import { href } from "../router.js";
import { setSetting, setting } from "../settings.js";

/** Tags shown. */
const TAGS = 4;
/** Filters that can be saved. */
const SAVED = 8;

/** The filters that the reader has saved, in this browser. @returns {string[]} */
function saved() {
  try {
    const list = JSON.parse(setting("saved-filters", "[]"));
    return Array.isArray(list) ? list.filter((q) => typeof q === "string" && q !== "").slice(0, SAVED) : [];
  } catch {
    return [];
  }
}

export class Tabs {
  constructor() {
    this.node = el("nav", { class: "tabs", "aria-label": "Filters at hand" });
    /** @type {{tag: string, conversations: number}[]} */
    this.tags = [];
    this.q = "";
    /** @type {number | null} */
    this.all = null;
    /** Number that the filter found, with a sign if there may be more. */
    this.found = "";
    /** What is drawn: the same is not drawn again, so that the focus stays. */
    this.drawn = "";
  }

  async load() {
    try {
      const answer = await api.get("/tags");
      this.tags = answer.tags.filter((/** @type {{conversations: number}} */ { conversations }) => conversations > 0);
      learn("tag", answer.tags.map((/** @type {{tag: string}} */ { tag }) => tag));
      this.draw();
    } catch {
      // The other filters stay.
    }
  }

  /** @param {{q?: string, all?: number | null, found?: string}} [changes] */
  draw(changes = {}) {
    Object.assign(this, changes);
    const { q, all, found } = this;
    const own = saved();
    const tags = [...this.tags].sort((a, b) => b.conversations - a.conversations).slice(0, TAGS);
    /** @type {[string, string, string][]} */
    const list = [
      ["All", "", all === null ? "" : count(all)],
      ["Open", "is:open", ""],
      ["Reset", "end:rst", ""],
      ...own.map((filter) => /** @type {[string, string, string]} */ ([filter, filter, ""])),
      ...tags.map(({ tag, conversations }) => /** @type {[string, string, string]} */ ([tag, `tag:${tag}`, count(conversations)])),
    ];
    const isNew = !list.some(([, filter]) => filter === q);
    if (isNew) list.unshift(["This filter", q, found]);
    const key = JSON.stringify([list, q, found]);
    if (key === this.drawn) return;
    this.drawn = key;
    /** @type {HTMLElement[]} */
    const links = list.map(([name, filter, number]) =>
      el("a", { href: href("conversations", { q: filter }), title: filter, "aria-current": filter === q ? "true" : null },
        el("span", { class: "name" }, name), el("small", {}, filter === q && filter !== "" ? found : number)));
    if (isNew) links.splice(1, 0, this.#button("plus", "Keep", "Keep this filter as a tab", () => [q, ...own]));
    else if (own.includes(q)) links.splice(4 + own.indexOf(q), 0, this.#button("x", "", `Remove the tab ${q}`, () => own.filter((other) => other !== q)));
    fill(this.node, ...links);
  }

  /** @param {string} sign @param {string} word @param {string} label @param {() => string[]} list the saved filters from then on */
  #button(sign, word, label, list) {
    const change = () => {
      setSetting("saved-filters", JSON.stringify(list().slice(0, SAVED)));
      this.draw();
      /** @type {HTMLElement | null} */ (this.node.querySelector("button, [aria-current]"))?.focus();
    };
    return el("button", { class: "btn quiet small", type: "button", "aria-label": label, title: label, onclick: change }, icon(sign), word);
  }
}
