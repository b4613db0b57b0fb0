/**
 * The filter box: completion, a mistake with its column, and earlier filters with the arrow up. Live updates never touch its text.
 * @module
 */
import { proposals, termAt } from "./completion.js";
import { byId, el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { setSetting, setting } from "./settings.js";

/** @typedef {import("./completion.js").Proposal} Proposal */

/** Filters that are remembered. */
const REMEMBERED = 30;
/** Proposals shown. */
const SHOWN = 8;
/** A filter takes effect so long after the last key, in ms. */
const QUIET = 500;

export class Filter {
  /**
   * @param {HTMLElement} host where it goes
   * @param {{id: string, label: string, placeholder: string, key?: string}} texts `key`: the shortcut shown in it
   * @param {(text: string) => void} changed called with a filter to apply
   */
  constructor(host, texts, changed) {
    this.changed = changed;
    this.applied = "";
    this.at = -1;
    /** Which of the earlier filters is shown. @type {number | undefined} */
    this.recalled = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {Proposal[]} */
    this.list = [];
    const { id, label, placeholder, key } = texts;
    this.input = el("input", { id, role: "combobox", "aria-label": label, "aria-expanded": "false", "aria-controls": `${id}-menu`,
      "aria-autocomplete": "list", placeholder, spellcheck: "false", autocomplete: "off", autocapitalize: "off", enterkeyhint: "search" });
    this.hint = key ? el("kbd", {}, key) : null;
    this.clearButton = el("button", { type: "button", "aria-label": "Clear filter", hidden: true, onclick: () => this.#clear() }, icon("x"));
    this.menu = el("ul", { class: "menu", id: `${id}-menu`, role: "listbox", "aria-label": "Completion", hidden: true });
    this.mistake = el("p", { class: "err", id: `${id}-mistake`, role: "alert", hidden: true });
    this.box = el("div", { class: "filter", role: "search", "aria-label": label }, icon("search"), this.input, this.hint, this.clearButton);
    host.append(el("div", { class: "combo" }, this.box, el("div", { class: "under" }, this.menu, this.mistake)));
    this.#listen();
  }

  /** Shows a filter that came from the address. @param {string} text */
  set(text) {
    this.applied = text;
    if (document.activeElement !== this.input || this.input.value.trim() === "") this.input.value = text;
    this.#showClear();
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  /** Shows that the filter is right. */
  ok() {
    this.mistake.hidden = true;
    this.input.removeAttribute("aria-invalid");
    this.input.removeAttribute("aria-describedby");
    this.box.classList.remove("is-bad");
  }

  /** Shows a mistake of the filter. @param {{detail: string, column?: number, suggestion?: string}} error */
  wrong(error) {
    const where = error.column ? `Column ${error.column}: ` : "";
    const { suggestion, column } = error;
    const repair = suggestion
      ? el("button", { class: "link", type: "button", onclick: () => this.#repair(suggestion, column ?? 1) }, `Use ${suggestion}`)
      : null;
    fill(this.mistake, icon("alert"), el("span", {}, where + error.detail), repair);
    this.mistake.hidden = false;
    this.input.setAttribute("aria-invalid", "true");
    this.input.setAttribute("aria-describedby", this.mistake.id);
    this.box.classList.add("is-bad");
  }

  /** Applies the text now. */
  apply() {
    clearTimeout(this.timer);
    const text = this.input.value.trim();
    this.#showClear();
    if (text === this.applied) return;
    this.applied = text;
    this.changed(text);
  }

  #clear() {
    this.#remember();
    this.input.value = "";
    this.ok();
    this.#close();
    this.apply();
    this.input.focus();
  }

  /** Puts the suggestion in the place of the term with the mistake. @param {string} suggestion @param {number} column */
  #repair(suggestion, column) {
    const chars = [...this.input.value];
    const before = chars.slice(0, column - 1).join("");
    const after = chars.slice(column - 1).join("");
    const key = suggestion.endsWith(":") ? /^[^:\s]*:?/ : /^[^\s,()]+/;
    this.input.value = before + after.replace(key, () => suggestion);
    this.input.focus();
    this.apply();
  }

  #showClear() {
    const empty = this.input.value === "";
    this.clearButton.hidden = empty;
    if (this.hint) this.hint.hidden = !empty;
  }

  #listen() {
    const { input } = this;
    input.addEventListener("input", () => {
      this.#showClear();
      this.#propose();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#applyIfDone(), QUIET);
    });
    input.addEventListener("keydown", (event) => this.#onKey(event));
    input.addEventListener("blur", () => this.#close());
    this.menu.addEventListener("mousedown", (event) => {
      event.preventDefault();
      const item = /** @type {HTMLElement} */ (event.target).closest("li");
      if (item) this.#take(Number(item.dataset.at));
    });
  }

  /** Applies what was typed, unless a term is unfinished: `lat:` alone is no mistake yet. */
  #applyIfDone() {
    const term = termAt(this.input.value, this.input.value.length);
    if (term.quoted || /[:~]$/.test(term.text) || this.list.length > 0) return;
    this.apply();
  }

  #propose() {
    const { input } = this;
    this.list = proposals(input.value, input.selectionStart ?? input.value.length).slice(0, SHOWN);
    this.at = -1;
    fill(
      this.menu,
      ...this.list.map(({ text, means }, at) =>
        el("li", { role: "option", id: `${input.id}-option-${at}`, "data-at": at, "aria-selected": "false" }, el("code", {}, text), el("span", {}, means)),
      ),
    );
    const open = this.list.length > 0;
    this.menu.hidden = !open;
    input.setAttribute("aria-expanded", String(open));
    input.removeAttribute("aria-activedescendant");
  }

  #close() {
    this.list = [];
    this.at = -1;
    this.menu.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  /** @param {number} step */
  #select(step) {
    const n = this.list.length;
    this.at = (this.at + step + n) % n;
    for (const [at, item] of [...this.menu.children].entries()) {
      item.setAttribute("aria-selected", String(at === this.at));
    }
    const id = `${this.input.id}-option-${this.at}`;
    this.input.setAttribute("aria-activedescendant", id);
    byId(id).scrollIntoView({ block: "nearest" });
  }

  /** @param {number} at */
  #take(at) {
    const proposal = this.list[at];
    if (!proposal) return;
    const { input } = this;
    const caret = input.selectionStart ?? input.value.length;
    const { start } = termAt(input.value, caret);
    input.setRangeText(proposal.insert, start, caret, "end");
    this.#showClear();
    this.#propose();
    if (proposal.insert.endsWith(" ")) {
      this.#close();
      this.apply();
    }
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const open = this.list.length > 0;
    const { key } = event;
    if (key === "ArrowDown" && open) this.#select(1);
    else if (key === "ArrowUp" && open) this.#select(-1);
    else if (key === "ArrowUp") this.#recall(1);
    else if (key === "ArrowDown") this.#recall(-1);
    else if (key === "Tab" && open && !event.shiftKey) this.#take(Math.max(0, this.at));
    else if (key === "Enter") this.#enter();
    else if (key === "Escape") this.#escape();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #enter() {
    if (this.at >= 0) {
      this.#take(this.at);
      return;
    }
    this.#close();
    this.#remember();
    this.apply();
  }

  #escape() {
    if (this.list.length > 0) this.#close();
    else this.input.blur();
  }

  /** @returns {string[]} */
  #earlier() {
    try {
      const list = JSON.parse(setting("filters", "[]"));
      return Array.isArray(list) ? list.filter((text) => typeof text === "string") : [];
    } catch {
      return [];
    }
  }

  #remember() {
    const text = this.input.value.trim();
    if (text === "") return;
    const list = [text, ...this.#earlier().filter((other) => other !== text)];
    setSetting("filters", JSON.stringify(list.slice(0, REMEMBERED)));
    this.recalled = undefined;
  }

  /** Brings back an earlier filter; it applies with Enter. @param {number} step */
  #recall(step) {
    const list = this.#earlier();
    const at = (this.recalled ?? -1) + step;
    if (at < -1 || at >= list.length) return;
    this.recalled = at;
    this.input.value = at < 0 ? "" : (list[at] ?? "");
    this.#showClear();
  }
}
