/**
 * One endpoint on Live: its clients, the lanes, its own card with the calls of the server, and the way to the store.
 * @module
 */
import { api } from "../api.js";
import { el, fill, messageOf, setText } from "../dom.js";
import { bare, count, duration, isDatagram, size, sizeRate } from "../format.js";
import { icon } from "../icons.js";
import { href } from "../router.js";
import { Calls } from "./calls.js";
import { Clients } from "./clients.js";
import { TRAVEL, Way } from "./lane.js";

/** @typedef {import("../types.js").Endpoint} Endpoint */
/** @typedef {import("../types.js").Exchange} Exchange */
/** @typedef {{p99_ns: number | null, received: number, sent: number}} Minute figures of a second, on average over the last minute */

/** Services that speak without being asked. */
const UNASKED = new Set(["greet", "time", "daytime", "chargen"]);
/** A second press within this time confirms, in ms. */
const CONFIRM = 4000;
/** So many bytes that the store has not acknowledged are worth a look: a conversation may hold them before it waits. */
const BEHIND = 1 << 20;
const WORDS = { chunk: "", line: "line frames", crlf: "CRLF lines" };

export class EndpointView {
  /** @param {Endpoint} endpoint @param {boolean} canControl */
  constructor(endpoint, canControl) {
    this.endpoint = endpoint;
    this.canControl = canControl;
    this.datagram = isDatagram(endpoint.proto);
    this.asks = !UNASKED.has(endpoint.svc.split(":")[0] ?? "");
    this.open = endpoint.open;
    /** What the facts and the controls show, so that they are drawn again only for a change. */
    this.drawn = "";
    this.controlsOf = "";
    /** @type {Minute | null} */
    this.minute = null;
    this.clients = new Clients(this.datagram, this.asks);
    this.receive = this.datagram ? "recvfrom" : "recv";
    this.send = this.datagram ? "sendto" : "send";
    this.calls = this.#makeCalls();
    this.go = new Way(this.asks ? "go" : "go off");
    this.back = new Way("back");
    this.keep = new Way("keep");
    const dashed = this.datagram ? " dgram" : "";
    /** Leads to the conversation that spoke last. */
    this.newest = el("a", { class: "newest", hidden: true });
    const ways = el("div", { class: "ways", "aria-hidden": "true" }, this.go.node, this.back.node);
    this.lane = el("div", { class: `lane idle${dashed}` }, this.newest, ways);
    this.lag = el("small", { class: "lag", hidden: true });
    this.toStore = el("div", { class: "lane tostore idle", "aria-hidden": "true" }, this.keep.node, this.lag);
    this.facts = el("p", { class: "facts" });
    this.controls = el("span", { class: "controls" });
    this.card = el("article", { class: "card endpoint" }, this.#head(), this.calls.node, el("div", { class: "state-line" }, this.facts, this.controls));
    this.nodes = [this.clients.node, this.lane, this.card, this.toStore];
    this.show();
  }

  #makeCalls() {
    const stream = ["socket", "bind", "listen", "accept", ...(this.asks ? ["recv"] : []), "send", "close"];
    const names = this.datagram ? ["socket", "bind", "recvfrom", "sendto"] : stream;
    const calls = new Calls(names, ["socket", "bind", "listen"]);
    if (this.endpoint.accepted > 0) for (const name of ["accept", this.receive, this.send]) calls.done(name);
    if (this.endpoint.accepted > this.endpoint.open) calls.done("close");
    return calls;
  }

  #head() {
    const { proto, addrs, svc, frame, ep } = this.endpoint;
    const named = addrs.length > 0 ? addrs.map(bare) : [bare(ep)];
    const framing = frame === "chunk" || this.datagram ? "" : (WORDS[/** @type {keyof typeof WORDS} */ (frame)] ?? `${frame} frames`);
    return el(
      "header",
      {},
      el("span", { class: this.datagram ? "pill dgram" : "pill" }, proto.toUpperCase()),
      el("h3", { class: "mono", title: addrs.join("  ") || ep }, named.join(", ")),
      el("span", { class: "push" }, framing ? `${svc}, ${framing}` : svc),
    );
  }

  /** Takes a new status from the server. @param {Endpoint} endpoint */
  set(endpoint) {
    this.endpoint = endpoint;
    this.open = endpoint.open;
    this.show();
  }

  /** Shows how far the record of its server is behind, below the way to the store. @param {import("../types.js").Process["record"]} record */
  behind(record) {
    this.lag.hidden = record === null;
    if (record === null) return;
    const bytes = record.waiting_bytes;
    setText(this.lag, bytes > 0 ? size(bytes) : "0 B");
    this.lag.classList.toggle("warn", bytes >= BEHIND);
    this.lag.title = "not acknowledged by the store";
  }

  /** Moves exchanges along the lanes. @param {Exchange[]} exchanges @param {number} pace exchanges a second in this batch */
  exchanges(exchanges, pace) {
    const first = exchanges[0]?.t_us ?? 0;
    this.#showNewest(exchanges.at(-1)?.conv ?? 0);
    this.lane.classList.remove("idle");
    this.toStore.classList.remove("idle");
    for (const { conv, req, rep, t_us } of exchanges) {
      const delay = Math.max(0, Math.min(TRAVEL, (t_us - first) / 1000));
      const asked = req.len > 0;
      const answered = rep.len > 0;
      if (asked) this.#light(this.receive, this.datagram ? "sendto" : "send", "req");
      if (answered) this.#light(this.send, this.datagram ? "recvfrom" : "recv", "rep");
      if (asked) this.go.travel(conv, 1, delay, pace);
      if (answered) this.back.travel(conv, 1, delay + (asked ? TRAVEL : 0), pace);
      this.keep.travel(conv, 1, delay + TRAVEL, pace);
    }
  }

  /** @param {number} conv */
  #showNewest(conv) {
    if (conv === 0) return;
    const address = href(`conversations/${conv}`);
    this.newest.hidden = false;
    if (this.newest.getAttribute("href") === address) return;
    this.newest.setAttribute("href", address);
    const words = `Open c${conv}, which spoke last at ${bare(this.endpoint.ep)}`;
    this.newest.setAttribute("aria-label", words);
    this.newest.title = words;
  }

  /** @param {string} ours @param {string} theirs @param {"req" | "rep"} light */
  #light(ours, theirs, light) {
    this.calls.light(ours, light);
    this.clients.calls.light(theirs, light);
    if (light === "rep") this.clients.calls.done("socket");
  }

  /** @param {number} conv @param {string} peer */
  opened(conv, peer) {
    this.clients.set(conv, peer, "open");
    this.calls.light("accept", "act");
    this.clients.calls.light("connect", "act");
  }

  /** @param {number} conv @param {string} peer @param {string} reason */
  ended(conv, peer, reason) {
    this.clients.end(conv, peer, reason);
    this.calls.light("close", "act");
    this.clients.calls.light("close", "act");
  }

  /**
   * Takes the figures of a second.
   * @param {import("../types.js").Tick["endpoints"][number] | undefined} second
   * @param {import("../types.js").Tick["clients"]} busiest
   */
  tick(second, busiest) {
    const exchanges = second?.exchanges ?? 0;
    if (second) {
      this.open = second.open;
      if (second.id !== null) this.endpoint.accepted += second.opened;
      const state = /** @type {Endpoint["state"]} */ (second.state);
      if (second.id !== null && ["open", "paused", "draining"].includes(state)) this.endpoint.state = state;
    }
    this.go.setRate(this.asks ? exchanges : 0);
    this.back.setRate(exchanges);
    this.keep.setRate(exchanges);
    this.clients.tick(busiest, this.open, exchanges);
    this.show();
  }

  show() {
    const { state, accepted } = this.endpoint;
    this.clients.had(accepted);
    this.card.classList.toggle("stopped", state !== "open");
    const idle = this.open === 0 && state === "open";
    this.calls.wait(idle ? (this.datagram ? "recvfrom" : "accept") : "");
    const waits = `waiting in ${this.datagram ? "recvfrom" : "accept"}`;
    const rest = this.datagram ? "Paused: datagrams wait in the socket." : "Paused: clients wait in the backlog.";
    /** @type {import("../dom.js").Child[]} */
    const facts = [];
    const { host, failing } = this.endpoint;
    if (host) facts.push(el("span", { class: "mono host", title: "The server that has it" }, host));
    if (failing) facts.push(el("span", { class: "out bad" }, icon("alert"), `Cannot answer: ${failing}.`));
    if (state === "paused") facts.push(el("span", { class: "out warn" }, icon("pause"), rest));
    if (state === "draining") facts.push(el("span", { class: "out warn" }, icon("drain"), this.open > 0 ? "Draining: answers what it has, then closes." : "Drained: accepts nothing."));
    if (idle && accepted === 0) facts.push(waits);
    if (this.open > 0 || (state === "open" && accepted > 0)) facts.push(fact(count(this.open), "open"));
    if (state === "open" && accepted > 0) facts.push(fact(count(accepted), "in all"));
    if (this.minute && state === "open") facts.push(...this.#minuteFacts(this.minute));
    const key = JSON.stringify([state, failing, this.open, accepted, this.minute]);
    if (key === this.drawn) return;
    this.drawn = key;
    fill(this.facts, ...facts);
    this.#showControls();
  }

  /** @param {Minute} minute */
  #minuteFacts({ p99_ns, received, sent }) {
    const facts = [];
    const bytes = this.asks ? received : sent;
    if (bytes >= 0.5) facts.push(fact(sizeRate(bytes), this.asks ? "received" : "sent"));
    if (p99_ns !== null) facts.push(el("span", {}, el("b", {}, "p99"), ` ${duration(p99_ns)}`));
    // The figures row below tells the last second.
    if (facts.length > 0) facts.unshift(el("span", { class: "window" }, "last minute:"));
    return facts;
  }

  #showControls() {
    const { state } = this.endpoint;
    if (!this.canControl || state === this.controlsOf) return;
    this.controlsOf = state;
    // With its protocol: TCP and UDP may share a port.
    const name = this.endpoint.addrs.join(", ") || this.endpoint.ep;
    if (state === "open") {
      fill(this.controls, this.#button("pause", "Pause", `Pause endpoint ${name}`, "paused"), this.#drainButton(name));
    } else {
      fill(this.controls, this.#button("play", "Resume", `Resume endpoint ${name}`, "open"));
    }
  }

  /** @param {string} sign @param {string} word @param {string} label @param {Endpoint["state"]} state */
  #button(sign, word, label, state) {
    const click = () => this.#request(state);
    return el("button", { class: "btn quiet small", type: "button", "aria-label": label, onclick: click }, icon(sign), el("span", { class: "lbl" }, word));
  }

  /** Draining ends conversations, so it asks for a second press where there are some. @param {string} name */
  #drainButton(name) {
    const word = el("span", { class: "lbl" }, "Drain");
    const button = el("button", { class: "btn quiet small", type: "button", "aria-label": `Drain endpoint ${name}` }, icon("drain"), word);
    let armed = false;
    const disarm = () => {
      armed = false;
      setText(word, "Drain");
      button.setAttribute("aria-label", `Drain endpoint ${name}`);
      button.classList.remove("ask");
    };
    button.addEventListener("click", () => {
      if (armed || this.open === 0) {
        disarm();
        void this.#request("draining");
        return;
      }
      armed = true;
      const ask = `End ${count(this.open)} ${this.open === 1 ? "conversation" : "conversations"}?`;
      setText(word, ask);
      button.setAttribute("aria-label", `${ask} Press again to drain endpoint ${name}`);
      button.classList.add("ask");
      setTimeout(disarm, CONFIRM);
    });
    return button;
  }

  /** @param {Endpoint["state"]} state */
  async #request(state) {
    const had = this.controls.contains(document.activeElement);
    try {
      this.set(await api.patch(`/endpoints/${this.endpoint.id}`, { state }));
    } catch (error) {
      fill(this.facts, el("span", { class: "out bad", role: "alert" }, icon("alert"), messageOf(error)));
      this.drawn = "";
    }
    if (had) this.controls.querySelector("button")?.focus();
  }
}

/** @param {string} figure @param {string} words */
function fact(figure, words) {
  return el("span", {}, el("b", {}, figure), ` ${words}`);
}
