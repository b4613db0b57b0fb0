/**
 * One message: its head, and its bytes in the view that is chosen.
 * @module
 */
import { url } from "../api.js";
import { toArray } from "../bytes.js";
import { append, el, fill, messageOf } from "../dom.js";
import { counted, size } from "../format.js";
import { icon } from "../icons.js";
import { cellView, escapedCells, hexView, textCells } from "./views.js";

/** @typedef {import("../types.js").Exchange} Exchange */
/** @typedef {import("../types.js").Bytes} Bytes */
/** @typedef {import("./views.js").View} View */
/** The bytes of a message: `req` or `rep`. @typedef {"req" | "rep"} Side */
/** How bytes are shown. @typedef {{mode: "text" | "hex" | "both" | "escaped", spaces: boolean, width: number}} Look */

/** Bytes shown at first: as text, and in hex, which takes more room. */
const SHOWN = { text: 512, hex: 128 };
/** Bytes that are loaded at once beyond the preview. */
const STEP = 64 * 1024;
/** Most bytes shown on the page; the rest is for a download. */
const MOST = 1024 * 1024;

/** Boxes by their element: a selection finds its bytes. @type {WeakMap<Element, Box>} */
const boxes = new WeakMap();

/** The box that a node lies in. @param {Node | null} node */
export function boxOf(node) {
  const element = node instanceof Element ? node : node?.parentElement;
  const found = element?.closest(".box");
  return found ? boxes.get(found) : undefined;
}

/** Returns part of a message, or all of it. @param {Exchange} exchange @param {Side} side @param {number} from @param {number} [to] */
export async function loadBytes(exchange, side, from, to) {
  const headers = { range: `bytes=${from}-${to === undefined ? "" : to - 1}` };
  const response = await fetch(rawAddress(exchange, side), { credentials: "same-origin", headers });
  if (!response.ok) throw new Error(`the console answered with status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** @param {Exchange} exchange @param {Side} side */
function rawAddress(exchange, side) {
  return url(`/exchanges/${exchange.id}/${side === "req" ? "request" : "reply"}`);
}

export class Box {
  /** @param {Exchange} exchange @param {Side} side @param {Look} look @param {boolean} datagram */
  constructor(exchange, side, look, datagram) {
    this.exchange = exchange;
    this.side = side;
    this.look = look;
    this.part = exchange[side];
    /** The bytes that are loaded. */
    this.loaded = toArray(this.part);
    /** Those of them that are shown. */
    this.bytes = this.loaded;
    this.unfolded = false;
    this.loading = false;
    /** @type {View[]} */
    this.views = [];
    this.word = side === "req" ? "request" : "reply";
    const unsent = side === "rep" && exchange.outcome === "unsent";
    this.node = el("div", { class: `box ${side === "req" ? "q" : "a"}${unsent ? " cut" : ""}` });
    boxes.set(this.node, this);
    this.hint = el("span", { class: "push" });
    this.body = el("div", { class: "box-body" });
    this.more = el("p", { class: "more", hidden: true });
    const head = el("header", {}, icon(side === "req" ? "right" : "left"), el("b", {}, this.word), el("span", {}, size(this.part.len)), this.hint);
    this.cuts = partsText(this.part, datagram);
    append(this.node, head, this.body, this.more);
    this.draw();
  }

  /** Draws the bytes with another look. @param {Look} [look] */
  draw(look = this.look) {
    this.look = look;
    const { mode, width } = look;
    const binary = this.part.b64 !== undefined;
    const name = `${this.word} ${this.exchange.n}`;
    let most = mode === "hex" || mode === "both" || binary ? SHOWN.hex : SHOWN.text;
    // A character of several bytes is not cut.
    while (!binary && (this.loaded[most] ?? 0) >> 6 === 2) most--;
    this.bytes = this.unfolded ? this.loaded : this.loaded.subarray(0, most);
    /** @type {View[]} */
    const views = [];
    if (mode === "escaped") views.push(cellView(escapedCells(this.bytes), `${name}, escaped`));
    else {
      if (mode === "both" || (mode === "text" && !binary)) views.push(cellView(textCells(this.bytes, look.spaces), name));
      if (mode !== "text" || binary) views.push(hexView(this.bytes, width, `${name}, in hex`));
    }
    this.views = views;
    fill(this.body, ...views.map(({ node }) => node));
    const why = mode === "text" && binary ? "not text, shown in hex" : "";
    fill(this.hint, el("span", {}, [why, this.cuts].filter(Boolean).join(", ")));
    this.#drawMore();
  }

  #drawMore() {
    const { part, bytes, exchange, side } = this;
    const unsent = side === "rep" && exchange.outcome === "unsent";
    const rest = part.len - bytes.length;
    this.more.hidden = rest <= 0 && !unsent;
    if (this.more.hidden) return;
    const label = rest <= STEP ? "Show all" : `Show ${size(STEP)} more`;
    const here = `of ${this.word} ${exchange.n}`;
    const show = el("button", { class: "link", type: "button", "aria-label": `${label} ${here}`, onclick: () => this.#load() }, label);
    const raw = el("a", { href: rawAddress(exchange, side), download: "", "aria-label": `Download ${this.word} ${exchange.n}` }, "Download");
    fill(
      this.more,
      unsent ? el("span", { class: "out bad" }, icon("unsent"), "not all of it was sent") : null,
      rest > 0 ? el("span", {}, `${size(bytes.length)} of ${size(part.len)} shown`) : null,
      rest > 0 && bytes.length < MOST ? show : null,
      rest > 0 ? raw : null,
    );
  }

  async #load() {
    if (this.loading) return;
    this.loading = true;
    const from = this.loaded.length;
    const to = Math.min(this.part.len, this.bytes.length + STEP);
    try {
      if (to > from) {
        const next = await loadBytes(this.exchange, this.side, from, to);
        const all = new Uint8Array(from + next.length);
        all.set(this.loaded);
        all.set(next, from);
        this.loaded = all;
      }
      this.unfolded = true;
      this.draw();
    } catch (error) {
      append(this.more, el("span", { class: "out bad" }, messageOf(error)));
    } finally {
      this.loading = false;
    }
  }

  /** All bytes of the message, loaded where only a part is here. @param {number} most */
  async all(most) {
    if (this.loaded.length === this.part.len) return this.loaded;
    if (this.part.len > most) throw new Error(`the message has ${size(this.part.len)}: download it`);
    return loadBytes(this.exchange, this.side, 0);
  }
}

/** In how many parts a message was read or written. @param {Bytes} part @param {boolean} datagram */
function partsText({ len, reads, writes }, datagram) {
  if (datagram || len === 0) return "";
  if (reads !== undefined && reads !== 1) return counted(reads, "read");
  if (writes !== undefined && writes !== 1) return counted(writes, "write");
  return "";
}
