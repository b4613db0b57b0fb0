/**
 * The row of socket calls in a card. A call is done, happening now, or has not happened yet; it lights only for an event.
 * @module
 */
import { el, setText } from "../dom.js";

/** A call stays lit so long after the last event, in ms. */
const LIT = 600;

/** @typedef {"req" | "rep" | "act"} Light */

export class Calls {
  /** @param {string[]} names @param {string[]} done those that have happened already */
  constructor(names, done = []) {
    /** @type {Map<string, {node: HTMLElement, word: HTMLElement, done: boolean, timer?: ReturnType<typeof setTimeout>}>} */
    this.calls = new Map();
    this.node = el("ol", { class: "calls" });
    for (const name of names) {
      const word = el("span", { class: "sr" });
      const node = el("li", {}, name, word);
      this.calls.set(name, { node, word, done: done.includes(name) });
      this.node.append(node);
      this.#rest(name);
    }
    /** The call that waits when nothing else happens: `accept`. */
    this.waitsIn = "";
  }

  /** Lights a call for an event. @param {string} name @param {Light} light */
  light(name, light) {
    const call = this.calls.get(name);
    if (!call) return;
    clearTimeout(call.timer);
    call.done = true;
    call.node.className = light;
    setText(call.word, " now");
    call.timer = setTimeout(() => this.#rest(name), LIT);
  }

  /** Marks a call as done, without light. @param {string} name */
  done(name) {
    const call = this.calls.get(name);
    if (!call || call.done) return;
    call.done = true;
    this.#rest(name);
  }

  /** Shows the call in which the endpoint waits; none with "". @param {string} name */
  wait(name) {
    if (this.waitsIn === name) return;
    const before = this.waitsIn;
    this.waitsIn = name;
    if (before) this.#rest(before);
    if (name) this.#rest(name);
  }

  /** @param {string} name */
  #rest(name) {
    const call = this.calls.get(name);
    if (!call) return;
    const waits = this.waitsIn === name;
    call.node.className = waits ? "act" : call.done ? "" : "off";
    setText(call.word, waits ? " waiting" : call.done ? "" : " not yet");
  }
}
