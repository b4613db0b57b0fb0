/**
 * A button that opens a menu: arrows move, Enter chooses, Escape closes.
 * @module
 */
import { byId, el, fill, setText } from "./dom.js";
import { icon } from "./icons.js";

/** A choice: a command, a download, or one of a group. @typedef {{name: string, run?: () => void | Promise<string | void>, href?: string, group?: string, checked?: boolean}} Choice */

/** How long the button tells what was done, in ms. */
const TOLD = 1600;

export class Menu {
  /**
   * @param {{label: string, icon: string, key?: string}} look
   * @param {() => Choice[]} choices asked for when it opens. `run` may return a word to show on the button.
   */
  constructor(look, choices) {
    this.choices = choices;
    /** Where the focus was before it opened: a key may open it from anywhere. @type {HTMLElement | null} */
    this.from = null;
    this.drawing = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.told = undefined;
    this.word = el("span", { class: "lbl opt" }, look.label);
    this.label = look.label;
    this.button = el("button", { class: "btn", type: "button", "aria-haspopup": "menu", "aria-expanded": "false", onclick: () => this.toggle() },
      icon(look.icon), this.word, look.key ? el("kbd", {}, look.key) : null);
    this.list = el("div", { class: "menu popup", role: "menu", "aria-label": look.label, hidden: true });
    this.node = el("span", { class: "has-menu" }, this.button, this.list);
    this.list.addEventListener("keydown", (event) => this.#onKey(event));
    this.node.addEventListener("focusout", (event) => {
      if (!this.drawing && !this.node.contains(/** @type {Node | null} */ (event.relatedTarget))) this.close();
    });
  }

  toggle() {
    if (this.list.hidden) this.open();
    else this.close();
  }

  open() {
    const { activeElement } = document;
    if (!this.node.contains(activeElement)) this.from = activeElement instanceof HTMLElement ? activeElement : null;
    else if (this.list.hidden) this.from = this.button;
    this.#draw();
    this.list.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    this.#items()[0]?.focus();
  }

  close() {
    this.list.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
  }

  /** Gives the focus back: keys act on what they acted on before. */
  #leave() {
    const { from } = this;
    if (!from || from === document.body || !from.isConnected) /** @type {HTMLElement | null} */ (document.activeElement)?.blur();
    else from.focus({ preventScroll: true });
    this.close();
  }

  /** Says on the button what was done. @param {string} word */
  tell(word) {
    setText(this.word, word);
    this.word.classList.add("told");
    setText(byId("say"), word);
    clearTimeout(this.told);
    this.told = setTimeout(() => {
      setText(this.word, this.label);
      this.word.classList.remove("told");
    }, TOLD);
  }

  /** @returns {HTMLElement[]} */
  #items() {
    return [...this.list.querySelectorAll("button, a")].map((item) => /** @type {HTMLElement} */ (item));
  }

  #draw() {
    const choices = this.choices();
    this.drawing = true;
    fill(this.list, ...choices.map((choice, at) => this.#item(choice, choices[at - 1])));
    this.drawing = false;
  }

  /** @param {Choice} choice @param {Choice | undefined} before */
  #item(choice, before) {
    const line = before && before.group !== choice.group ? "divided" : "";
    if (choice.href) {
      return el("a", { role: "menuitem", tabindex: -1, class: line, href: choice.href, download: "", onclick: () => this.close() }, choice.name);
    }
    const checked = choice.group ? String(choice.checked === true) : null;
    const sign = choice.group ? el("span", { class: "tick" }, choice.checked ? icon("check") : "") : null;
    return el("button", { role: choice.group ? "menuitemradio" : "menuitem", "aria-checked": checked, tabindex: -1, class: line, type: "button",
      onclick: () => this.#choose(choice) }, sign, choice.name);
  }

  /** @param {Choice} choice */
  async #choose(choice) {
    const at = this.#items().indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const done = choice.run?.();
    if (choice.group) {
      this.#draw();
      this.#items()[at]?.focus();
      return;
    }
    this.#leave();
    const word = await done;
    if (word) this.tell(word);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const items = this.#items();
    const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const { key } = event;
    if (key === "ArrowDown") items[(at + 1) % items.length]?.focus();
    else if (key === "ArrowUp") items[(at - 1 + items.length) % items.length]?.focus();
    else if (key === "Home") items[0]?.focus();
    else if (key === "End") items.at(-1)?.focus();
    else if (key === "Escape") this.#leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
