/**
 * The card of the clients of one endpoint: who is connected, what they do, and how they went.
 * @module
 */
import { el, fill, setText } from "../dom.js";
import { counted, rate, size, wordLook } from "../format.js";
import { icon } from "../icons.js";
import { Calls } from "./calls.js";

/** `soFar`: bytes of its requests and of its replies, if they are known. @typedef {{conv: number, peer: string, state: string, rate: number, endedAt: number, soFar: [number, number] | null, spoke: boolean}} Client */

/** Clients shown; the head tells the number of all. */
const SHOWN = 3;
/** Clients known of one endpoint. */
const KNOWN = 100;
/** One that has ended stays so long, in ms. */
const STAYS = 8000;

export class Clients {
  /** @param {boolean} datagram @param {boolean} asks whether clients send requests */
  constructor(datagram, asks) {
    this.datagram = datagram;
    /** @type {Map<number, Client>} */
    this.all = new Map();
    this.ever = 0;
    this.open = 0;
    this.lines = 0;
    const stream = ["socket", "connect", ...(asks ? ["send"] : []), "recv", "close"];
    this.calls = new Calls(datagram ? ["socket", "sendto", "recvfrom"] : stream);
    this.title = document.createTextNode("");
    this.rate = el("span", { class: "push" });
    this.list = el("ul", { class: "peers" });
    const tag = el("span", { class: "tier-tag" }, "User interface · ");
    this.node = el("article", { class: "card clients waiting" }, el("header", {}, el("h3", {}, tag, this.title), this.rate), this.calls.node, this.list);
    this.show();
  }

  /** Takes how many there were before the page knew them. @param {number} accepted */
  had(accepted) {
    if (accepted <= this.ever) return;
    this.ever = accepted;
    this.show();
  }

  /** @param {number} conv @param {string} peer @param {string} state */
  set(conv, peer, state) {
    const client = this.all.get(conv) ?? { conv, peer, state, rate: 0, endedAt: 0, soFar: null, spoke: true };
    if (client.endedAt > 0) return;
    client.state = state;
    this.all.set(conv, client);
    this.ever++;
    this.calls.done("socket");
    this.calls.done("connect");
    if (this.all.size > KNOWN) this.#forget();
  }

  /** @param {number} conv @param {string} peer @param {string} reason */
  end(conv, peer, reason) {
    this.set(conv, peer, reason);
    const client = this.all.get(conv);
    if (!client) return;
    client.endedAt = Date.now();
    client.rate = 0;
  }

  /** Forgets those that are open no more. @param {number[]} ids @param {Set<number>} open */
  keep(ids, open) {
    for (const id of ids) if (!open.has(id) && this.all.get(id)?.endedAt === 0) this.all.delete(id);
  }

  /** Takes the figures of a second. @param {{conv: number, peer: string, exchanges: number, state: string}[]} busiest @param {number} open @param {number} exchanges */
  tick(busiest, open, exchanges) {
    for (const client of this.all.values()) client.rate = 0;
    for (const { conv, peer, state, exchanges: n } of busiest) {
      if (!this.all.has(conv) && state !== "ended") this.set(conv, peer, state);
      const client = this.all.get(conv);
      if (client && client.endedAt === 0) Object.assign(client, { rate: n, spoke: true });
    }
    this.open = open;
    setText(this.rate, exchanges > 0 ? rate(exchanges) : "");
    this.show();
  }

  /** Open clients that are shown and have spoken since their bytes were asked for. */
  unknown() {
    return this.#pick().filter(({ spoke, endedAt }) => spoke && endedAt === 0).map(({ conv }) => conv);
  }

  /** Notes whether the bytes of a client are to be asked for. @param {number} conv @param {boolean} spoke */
  spoke(conv, spoke) {
    const client = this.all.get(conv);
    if (client) client.spoke = spoke;
  }

  /** Takes the bytes so far of a conversation. @param {import("../types.js").Conversation} conversation */
  count({ conv, request_bytes, reply_bytes }) {
    const client = this.all.get(conv);
    if (!client || request_bytes === null || reply_bytes === null) return;
    client.soFar = [request_bytes, reply_bytes];
  }

  /** Draws what is known. */
  show() {
    const now = Date.now();
    for (const [conv, client] of this.all) {
      if (client.endedAt > 0 && now - client.endedAt > STAYS) this.all.delete(conv);
    }
    const open = this.open;
    const waiting = open === 0 && this.all.size === 0;
    const plain = this.datagram ? "Datagram peers" : "Clients";
    const words = this.datagram ? counted(open, "datagram peer") : `${open.toLocaleString("en")} connected`;
    setText(this.title, waiting ? plain : words);
    this.node.classList.toggle("waiting", waiting);
    const picked = this.#pick();
    // The card does not shrink when a client leaves: what stands below it would jump.
    this.lines = Math.max(this.lines, picked.length, 1);
    this.list.style.setProperty("--lines", String(this.lines));
    if (waiting) fill(this.list, el("li", { class: "dim" }, this.ever > 0 ? "No client now." : "No client yet."));
    else fill(this.list, ...picked.map(line));
  }

  /** The clients to show: the busy ones, those that went oddly, the newest. */
  #pick() {
    /** @param {Client} client */
    const weight = (client) => {
      if (client.rate > 0) return 3e6 + client.rate;
      if (client.endedAt > 0) return wordLook(client.state).kind === "bad" ? 5e6 : 1e6;
      return client.state === "half-closed" ? 2.5e6 : 2e6;
    };
    const sorted = [...this.all.values()].sort((a, b) => weight(b) - weight(a) || b.conv - a.conv);
    return sorted.slice(0, SHOWN).sort((a, b) => a.conv - b.conv);
  }

  #forget() {
    const ended = [...this.all.values()].find((client) => client.endedAt > 0);
    const [first] = this.all.keys();
    this.all.delete(ended?.conv ?? first ?? 0);
  }
}

/** @param {Client} client */
function line({ peer, state, rate: perSecond, soFar, endedAt }) {
  const look = wordLook(state);
  const [requests, replies] = soFar ?? [0, 0];
  return el(
    "li",
    {},
    el("span", { class: "mono", title: peer }, peer),
    el("span", { class: "num rate" }, perSecond > 0 ? rate(perSecond) : ""),
    el("span", { class: `out ${look.kind}` }, icon(look.icon), state),
    soFar && endedAt === 0 ? el("small", { class: "so-far" }, `${size(requests)} of requests, ${size(replies)} of replies so far`) : null,
  );
}
