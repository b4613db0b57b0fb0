/**
 * The conversations that are marked, and the toolbar for them.
 * @module
 */
import { url } from "../api.js";
import { el, fill } from "../dom.js";
import { count } from "../format.js";
import { icon } from "../icons.js";
import { editTags, labelConversations } from "../labels.js";
import { Menu } from "../menu.js";
import { ranges } from "./source.js";

/** @typedef {import("../types.js").Conversation} Conversation */

/** Most conversations that can be marked: their ids go into one address. */
const MOST = 500;

export class Marked {
  /**
   * @param {{mayLabel: () => boolean, q: () => string, changed: (ids: number[]) => void, labelled: (ids: number[]) => void}} options
   * `changed`: their rows look different; `labelled`: their tags changed
   */
  constructor(options) {
    this.options = options;
    /** @type {Map<number, Conversation>} */
    this.all = new Map();
    this.export = new Menu({ label: "Export", icon: "dl", key: "e" }, () => this.exports());
    this.tag = el("button", { class: "btn", type: "button", onclick: () => this.editTags() }, icon("tag"), el("span", { class: "lbl" }, "Tag"), el("kbd", {}, "t"));
    this.number = el("b", {});
    const unmark = el("button", { class: "btn quiet", type: "button", "aria-label": "Unmark all", onclick: () => this.clear() }, icon("x"), el("span", { class: "lbl opt" }, "Unmark"));
    this.node = el("div", { class: "bar", role: "toolbar", "aria-label": "Marked conversations", hidden: true }, icon("check"), this.number, this.export.node, this.tag,
      el("span", { class: "push" }), unmark);
  }

  /** @param {number} id */
  has(id) {
    return this.all.has(id);
  }

  /** @param {Conversation} conversation */
  toggle(conversation) {
    const { conv } = conversation;
    if (!this.all.delete(conv) && this.all.size < MOST) this.all.set(conv, conversation);
    this.#show();
    this.options.changed([conv]);
  }

  /** Marks all of these, or none of them if all are marked. @param {Conversation[]} conversations */
  toggleAll(conversations) {
    const every = conversations.every(({ conv }) => this.has(conv));
    for (const conversation of conversations) {
      if (every) this.all.delete(conversation.conv);
      else if (this.all.size < MOST) this.all.set(conversation.conv, conversation);
    }
    this.#show();
    this.options.changed(conversations.map(({ conv }) => conv));
  }

  clear() {
    const ids = [...this.all.keys()];
    this.all.clear();
    this.#show();
    this.options.changed(ids);
  }

  #show() {
    const n = this.all.size;
    this.node.hidden = n === 0;
    this.tag.hidden = !this.options.mayLabel();
    fill(this.number, n >= MOST ? `${count(n)} marked, the most there can be` : `${count(n)} marked`);
  }

  /** Downloads of the exchanges of those that are marked; without any, of what the filter selects. */
  exports() {
    const q = this.all.size > 0 ? `conv:${ranges([...this.all.keys()])}` : this.options.q();
    return [
      { name: "JSON lines", href: url("/export", { q, format: "jsonl" }) },
      { name: "CSV", href: url("/export", { q, format: "csv" }) },
    ];
  }

  /** Edits the tags of those that are marked, or of `current`. @param {Conversation} [current] */
  async editTags(current) {
    const chosen = this.all.size > 0 ? [...this.all.values()] : current ? [current] : [];
    const first = chosen[0];
    if (!first || !this.options.mayLabel()) return;
    const ids = chosen.map(({ conv }) => conv);
    const common = first.tags.filter((tag) => chosen.every(({ tags }) => tags.includes(tag)));
    await editTags({
      title: ids.length === 1 ? `Tags of c${first.conv}` : `Tags of ${count(ids.length)} conversations`,
      tags: common,
      apply: async (add, remove) => {
        await labelConversations(ids, { add, remove });
        for (const conversation of chosen) conversation.tags = [...new Set([...conversation.tags, ...add])].filter((tag) => !remove.includes(tag));
        this.options.labelled(ids);
      },
    });
  }
}
