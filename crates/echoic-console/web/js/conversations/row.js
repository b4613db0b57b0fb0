/**
 * The row of a conversation.
 * @module
 */
import { visible } from "../bytes.js";
import { el, fill, setAttribute, setData } from "../dom.js";
import { bare, clock, count, dateTime, duration } from "../format.js";
import { icon } from "../icons.js";
import { href } from "../router.js";
import { BytesCell, EndpointCell, TextCell, WordCell } from "../rows/cells.js";

/** @typedef {import("../types.js").Conversation} Conversation */

/** What the bytes of an open conversation are. */
const SO_FAR = "Of its messages so far; the bytes of its socket are known when it has ended";

/** The heads of the columns. @param {HTMLElement} order the button that turns the order @param {HTMLElement} all the box that marks */
export function conversationHead(order, all) {
  /** @param {string} kind @param {...import("../dom.js").Child} words */
  const head = (kind, ...words) => el("span", { role: "columnheader", class: kind }, ...words);
  return el("div", { class: "row head", role: "row", "aria-rowindex": "1" }, head("", all), head("", "Id"),
    el("span", { role: "columnheader", class: "c-start" }, order), head("c-dur num", "Lasted"), head("", "Peer"), head("", "Endpoint"),
    head("c-svc", "Service"), head("num", "Exch."), head("num c-in", icon("right", "req"), "Received"), head("num c-out", icon("left", "rep"), "Sent"),
    head("", "Close reason"), head("c-tags", "Tags"));
}

/** How long it lasted, or lasts. @param {Conversation} conversation @param {number} now in µs */
export function lasted({ opened_us, ended_us }, now) {
  const us = Math.max(0, (ended_us ?? now) - opened_us);
  return us === 0 ? "0 ms" : duration(us * 1000);
}

/** What a row needs to know beside its conversation. @typedef {{isMarked: (conv: number) => boolean, now: () => number, q: () => string, mark: (conversation: Conversation) => void}} Around */

/** An element that shows one conversation after another. */
export class ConversationRow {
  /** @param {Around} around `now` in µs */
  constructor(around) {
    this.around = around;
    /** @type {Conversation | null} */
    this.conversation = null;
    this.box = el("input", { type: "checkbox", tabindex: -1, onchange: () => this.conversation && around.mark(this.conversation) });
    this.id = document.createTextNode("");
    this.link = el("a", { tabindex: -1 }, this.id);
    this.seconds = document.createTextNode("");
    this.ms = document.createTextNode("");
    this.start = el("time", { class: "c-start", role: "gridcell" }, this.seconds, el("span", { class: "ms" }, this.ms));
    this.lasted = new TextCell("num c-dur");
    this.peer = new TextCell("mono c-peer");
    this.endpoint = new EndpointCell();
    this.service = new TextCell("c-svc");
    this.exchanges = new TextCell("num c-n");
    this.received = new BytesCell("num c-in");
    this.sent = new BytesCell("num c-out");
    this.end = new WordCell();
    this.labels = el("span", { class: "c-tags", role: "gridcell" });
    this.labelled = "";
    const cell = (/** @type {string} */ kind, /** @type {Node} */ child) => el("span", { class: kind, role: "gridcell" }, child);
    const { lasted, peer, endpoint, service, exchanges, received, sent, end } = this;
    this.node = el("div", { class: "row", role: "row" }, cell("", this.box), cell("mono c-id", this.link), this.start,
      ...[lasted, peer, endpoint, service, exchanges, received, sent, end].map(({ node }) => node), this.labels);
  }

  /** @param {Conversation} conversation */
  show(conversation) {
    const { conv, opened_us, peer, svc, exchanges, received, sent, state, reason, role } = conversation;
    const { around } = this;
    this.conversation = conversation;
    const marked = around.isMarked(conv);
    setAttribute(this.node, "aria-selected", String(marked));
    setAttribute(this.box, "aria-label", `Mark c${conv}`);
    this.box.checked = marked;
    setData(this.id, `c${conv}`);
    setAttribute(this.link, "href", href(`conversations/${conv}`, { q: around.q() }));
    setAttribute(this.start, "title", dateTime(opened_us));
    setData(this.seconds, clock(opened_us).slice(0, 8));
    setData(this.ms, clock(opened_us).slice(8));
    this.lasted.show(lasted(conversation, around.now()));
    this.peer.show(bare(peer), peer);
    this.endpoint.show(conversation);
    this.service.show(role === "client" ? "client" : svc);
    this.exchanges.show(count(exchanges));
    const [requests, replies] = [conversation.request_bytes, conversation.reply_bytes];
    this.received.show(received, role === "client" ? replies : requests, SO_FAR);
    this.sent.show(sent, role === "client" ? requests : replies, SO_FAR);
    this.end.show(state === "ended" ? (reason ?? state) : state);
    this.#showLabels(conversation);
  }

  /** @param {Conversation} conversation */
  #showLabels({ tags, note }) {
    const labelled = JSON.stringify([tags, note]);
    if (labelled === this.labelled) return;
    this.labelled = labelled;
    fill(this.labels, ...tags.map((tag) => el("span", { class: "tag" }, tag)),
      note ? el("span", { class: "has-note", title: visible(note) }, icon("note"), el("span", { class: "sr" }, "has a note")) : null);
  }
}
