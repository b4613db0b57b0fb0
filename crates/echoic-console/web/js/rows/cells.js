/**
 * Parts of a row that show one value after another. Each writes only what differs: an unchanged text costs no layout.
 * @module
 */
import { el, setAttribute, setData } from "../dom.js";
import { isDatagram, size, wordLook } from "../format.js";
import { icon } from "../icons.js";
import { tlsTitle, tlsWord } from "../tls.js";

/** A cell of text. */
export class TextCell {
  /** @param {string} kind its classes @param {"span" | "time"} [tag] */
  constructor(kind, tag = "span") {
    this.text = document.createTextNode("");
    this.kind = kind;
    this.node = el(tag, { class: kind, role: "gridcell" }, this.text);
  }

  /** @param {string} text @param {string} [title] what the pointer is told */
  show(text, title) {
    setData(this.text, text);
    setAttribute(this.node, "title", title ?? null);
  }
}

/** A cell of bytes: a number that is final, or that of an open conversation so far. */
export class BytesCell {
  /** @param {string} kind its classes */
  constructor(kind) {
    this.size = document.createTextNode("");
    this.soFar = el("span", { class: "sr", hidden: true }, " so far");
    this.node = el("span", { class: kind, role: "gridcell" }, this.size, this.soFar);
  }

  /** @param {number | null} final @param {number | null | undefined} soFar @param {string} title what the bytes so far are */
  show(final, soFar, title) {
    const bytes = final ?? soFar ?? null;
    setData(this.size, bytes === null ? "–" : size(bytes));
    setAttribute(this.node, "title", final === null ? title : null);
    this.node.classList.toggle("dim", final === null);
    this.soFar.hidden = final !== null || bytes === null;
  }
}

/** A word with its icon: an outcome, a state or a close reason. */
export class WordCell {
  constructor() {
    this.word = document.createTextNode("");
    this.icon = "";
    this.sign = /** @type {Element} */ (el("i"));
    this.node = el("span", { role: "gridcell" }, this.sign, this.word);
  }

  /** @param {string} word */
  show(word) {
    const look = wordLook(word);
    setData(this.word, word);
    setAttribute(this.node, "class", `out c-end ${look.kind}`);
    if (look.icon === this.icon) return;
    this.icon = look.icon;
    const sign = icon(look.icon);
    this.sign.replaceWith(sign);
    this.sign = sign;
  }
}

/** The pill of an endpoint, and a mark of TLS. */
export class EndpointCell {
  constructor() {
    this.name = document.createTextNode("");
    this.pill = el("span", { class: "pill" }, this.name);
    this.tls = document.createTextNode("");
    this.mark = el("span", { class: "tls", hidden: true }, icon("lock"), el("span", { class: "sr" }, this.tls));
    this.node = el("span", { class: "c-ep", role: "gridcell" }, this.pill, this.mark);
  }

  /** @param {{ep: string, proto: string, tls?: import("../types.js").Tls}} of */
  show({ ep, proto, tls }) {
    setData(this.name, ep);
    setAttribute(this.pill, "class", isDatagram(proto) ? "pill dgram" : "pill");
    this.mark.hidden = !tls;
    if (!tls) return;
    setData(this.tls, ` ${tlsWord(tls)}`);
    setAttribute(this.mark, "class", tls.failure === undefined ? "tls" : "tls bad");
    setAttribute(this.mark, "title", tlsTitle(tls));
  }
}
