/**
 * What came back, message by message.
 * @module
 */
import { preview } from "../bytes.js";
import { append, el, fill } from "../dom.js";
import { count, counted, duration, size, wordLook } from "../format.js";
import { icon } from "../icons.js";
import { href } from "../router.js";
import { hasScreen } from "../screens.js";

/** @typedef {{req: import("../types.js").Bytes, rep: import("../types.js").Bytes, lat_ns: number | null}} Reply */
/** @typedef {{conv: number | null, replies: Reply[], end: string, expected?: boolean}} Result */

/** Replies that are listed; the conversation has all. */
const LISTED = 200;

/** @param {string} sign @param {string} kind @param {string} word */
const out = (sign, kind, word) => el("span", { class: `out ${kind}` }, icon(sign), word);

/** @param {Reply} reply @param {number} at */
function row({ req, rep, lat_ns }, at) {
  const greeting = req.len === 0;
  const answered = rep.len > 0;
  const took = answered && lat_ns !== null ? `${size(rep.len)}, ${duration(lat_ns)}` : answered ? size(rep.len) : "";
  return el("li", {}, el("span", { class: "dim" }, greeting ? "–" : `#${at}`), answered ? preview(rep) : el("span", { class: "dim" }, "no reply"),
    el("span", { class: "num" }, took), answered ? out("check", "", "ok") : out("none", "warn", "unanswered"));
}

/** The way to the conversation that was recorded. @param {number | null} conv */
function conversationLink(conv) {
  if (conv === null) return el("span", { class: "push dim" }, "not recorded");
  const address = hasScreen("conversations") ? href(`conversations/${conv}`) : href("live", { q: `conv:${conv}` });
  return el("a", { class: "push link", href: address }, `Open c${conv}`);
}

export class Answer {
  constructor() {
    this.head = el("header", { role: "none" });
    this.list = el("ol", { class: "answer", "aria-label": "Replies", tabindex: "0" });
    this.status = el("span", { role: "status" });
    this.node = el("div", { class: "pane" }, this.head, this.list);
    this.#head("nothing sent yet");
  }

  /** @param {string} words @param {...import("../dom.js").Child} rest */
  #head(words, ...rest) {
    fill(this.status, words);
    fill(this.head, icon("left", "rep"), el("b", { class: "rep" }, "reply"), this.status, ...rest);
  }

  /** @param {string} where */
  sending(where) {
    fill(this.list);
    this.#head(`sending to ${where}…`);
  }

  /** @param {string} why */
  failed(why) {
    fill(this.list);
    this.#head("not sent");
    append(this.list, el("li", { class: "wide" }, el("span", { class: "err", role: "alert" }, icon("alert"), why)));
  }

  /** @param {Result} result */
  show({ conv, replies, end, expected }) {
    const sent = replies.filter(({ req }) => req.len > 0).length;
    const answered = replies.filter(({ req, rep }) => req.len > 0 && rep.len > 0).length;
    const hoped = expected === undefined ? "" : expected ? ", as expected" : ", not as expected";
    const words = sent === 0 ? `${counted(replies.length, "greeting")}${hoped}` : `${count(answered)} of ${count(sent)}${hoped}`;
    const look = wordLook(end);
    this.#head(words, expected === false && icon("alert", "bad"), el("span", { class: "dim", title: "How the conversation ended" }, look.kind === "" ? end : out(look.icon, look.kind, end)), conversationLink(conv));
    let number = 0;
    fill(this.list, ...replies.slice(0, LISTED).map((reply) => row(reply, reply.req.len > 0 ? ++number : number)));
    if (replies.length > LISTED) append(this.list, el("li", { class: "wide dim" }, `${count(replies.length - LISTED)} more: the conversation has them all.`));
  }
}
