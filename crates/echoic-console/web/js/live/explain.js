/**
 * Explain: armed for the next conversation, then its socket calls with arguments and results.
 * @module
 */
import { api } from "../api.js";
import { el, fill, messageOf } from "../dom.js";
import { clock } from "../format.js";
import { icon } from "../icons.js";
import { href } from "../router.js";
import { hasScreen } from "../screens.js";

/** @typedef {import("../types.js").SocketCall} SocketCall */

export class Explain {
  constructor() {
    this.button = el("button", { class: "btn quiet", type: "button", onclick: () => this.#arm() }, icon("explain"), el("span", { class: "lbl" }, "Explain the next conversation"));
    this.place = el("div", { class: "explain", role: "region", "aria-label": "Explain" });
  }

  async #arm() {
    try {
      await api.post("/explain", {});
      this.#banner("warn", "explain", "Explain is on.", "The next conversation that opens shows its socket calls.");
    } catch (error) {
      this.#banner("bad", "alert", "Explain is not on.", messageOf(error));
    }
  }

  /** @param {string} kind @param {string} sign @param {string} head @param {string} words */
  #banner(kind, sign, head, words) {
    fill(this.place, el("p", { class: `banner ${kind}`, role: "status" }, icon(sign), el("b", {}, head), words));
  }

  /** Shows the calls of a conversation. @param {{conv: number, calls: SocketCall[]}} event */
  show({ conv, calls }) {
    const name = `c${conv}`;
    const title = hasScreen("conversations") ? el("a", { class: "mono", href: href(`conversations/${conv}`) }, name) : el("span", { class: "mono" }, name);
    const close = el("button", { class: "btn quiet", type: "button", "aria-label": "Close the explanation", onclick: () => fill(this.place) }, icon("x"));
    const rows = calls.map(({ t_us, call, args, result }) =>
      el("li", {}, el("time", {}, clock(t_us)), el("span", {}, el("b", {}, call), `(${args})`), el("span", { class: "r" }, `= ${result}`)),
    );
    fill(
      this.place,
      el("section", { class: "explained" }, el("header", {}, icon("explain"), el("h2", {}, "Socket calls of "), title, el("span", { class: "dim" }, "of the server, in order, as they returned"), el("span", { class: "push" }), close),
        el("ol", { class: "trace timed" }, ...rows)),
    );
  }
}
