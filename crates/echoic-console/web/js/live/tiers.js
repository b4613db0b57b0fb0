/**
 * The three tiers: one row an endpoint, so that a lane always joins its two ends, and the store beside them.
 * @module
 */
import { api } from "../api.js";
import { el, fill, setText } from "../dom.js";
import { count, counted } from "../format.js";
import { icon } from "../icons.js";
import { EndpointView } from "./endpoint.js";
import { Hosts } from "./hosts.js";
import { StoreCard } from "./store.js";

/** @typedef {import("../types.js").Info} Info */
/** @typedef {import("../types.js").Endpoint} Endpoint */
/** @typedef {import("../types.js").Exchange} Exchange */
/** @typedef {import("../types.js").Tick} Tick */

/** Figures of the last minute are asked for so often, in ms. */
const MINUTE_EVERY = 5000;

/** Most clients whose bytes are asked for at once. */
const ASKED_MOST = 50;

/** @param {string} title @param {Element} small @param {string} kind */
function head(title, small, kind) {
  return el("header", { class: `tier-head ${kind}` }, el("h2", {}, title), small);
}

export class Tiers {
  /** @param {() => void} served called when servers came or went, or events were left out */
  constructor(served) {
    this.hosts = new Hosts(() => this.#showHosts(), served);
    this.served = served;
    /** Endpoints of the last tick that have no view. */
    this.strange = "";
    this.smalls = { processing: el("small", {}), storage: el("small", {}) };
    this.section = el("section", { class: "tiers", id: "tiers", "aria-label": "The three tiers" });
    this.words = el("span", {});
    this.toggle = el("button", { class: "btn", type: "button", "aria-expanded": "false", "aria-controls": "tiers", onclick: () => this.#fold() }, "Show");
    this.summary = el("div", { class: "bar tiers-sum" }, icon("live"), this.words, el("span", { class: "push" }), this.toggle);
    /** @type {Map<string, EndpointView>} */
    this.views = new Map();
    /** @type {StoreCard | null} */
    this.store = null;
    /** Whether anything is recorded. */
    this.any = false;
    this.asking = false;
    this.timer = setInterval(() => this.#askMinute(), MINUTE_EVERY);
  }

  destroy() {
    clearInterval(this.timer);
    this.hosts.destroy();
  }

  /** Draws a fresh answer of `/info`. What was there before stays: its calls may be lit, and its buttons pressed. @param {Info} info */
  set(info) {
    const same = this.info?.instance === info.instance;
    const before = same ? this.views : new Map();
    this.info = info;
    this.any ||= info.store.exchanges > 0;
    const canControl = info.features.control && !info.readonly;
    this.views = new Map(info.endpoints.map((endpoint) => {
      const key = keyOf(endpoint.id, endpoint.ep);
      const view = before.get(key) ?? new EndpointView(endpoint, canControl);
      view.set(endpoint);
      return [key, view];
    }));
    if (!same) this.store = new StoreCard(info);
    this.hosts.set(info);
    if (same && [...before.keys()].join() === [...this.views.keys()].join()) this.#showHosts();
    else this.#arrange();
    void this.#askMinute();
    void this.#askOpen();
  }

  #arrange() {
    const { info, store } = this;
    if (!info || !store) return;
    const rows = [...this.views.values()].map(({ nodes }) => nodes);
    const [first = [], ...rest] = rows;
    this.section.style.setProperty("--rows", String(Math.max(1, rows.length)));
    this.section.classList.toggle("many", rows.length > 3);
    const none = rows.length === 0 ? el("p", { class: "card waiting dim" }, "No endpoint is known yet.") : null;
    const { processing, storage } = this.smalls;
    fill(this.section, head("User interface", el("small", {}, "clients"), "t1"), head("Processing", processing, "t2"), head("Data storage", storage, "t3"),
      none, ...first, store.node, ...rest.flat(), ...this.hosts.nodes);
    this.#showHosts();
  }

  /** Shows what is known of the processes, in the heads of the tiers and beside the lanes. */
  #showHosts() {
    const { info, hosts } = this;
    if (!info) return;
    // A console beside counts nothing itself, unless it controls servers.
    const own = info.recorder ? `echoic serve, pid ${info.pid}` : "another process";
    setText(this.smalls.processing, hosts.words?.processing ?? own);
    setText(this.smalls.storage, hosts.words?.storage ?? "recorder and store");
    this.#sum();
    for (const view of this.views.values()) view.behind(hosts.server(view.endpoint.server)?.record ?? null);
  }

  /** The view of an endpoint; created for one that only the record knows. @param {Exchange | {ep: string, svc: string, proto?: string}} of */
  #viewOf(of) {
    const known = [...this.views.values()].find(({ endpoint }) => endpoint.ep === of.ep && (endpoint.svc === of.svc || of.svc === ""));
    if (known || this.info?.endpoints.length) return known;
    const proto = of.proto ?? of.ep.split(":")[0] ?? "tcp";
    /** @type {Endpoint} */
    const endpoint = { id: 0, ep: of.ep, proto, addrs: [], svc: of.svc, frame: "chunk", state: "open", open: 0, accepted: 0, rejected: 0 };
    const view = new EndpointView(endpoint, false);
    this.views.set(keyOf(0, of.ep), view);
    this.#arrange();
    return view;
  }

  /** @param {import("../types.js").Batch} batch */
  batch({ exchanges, more }) {
    this.any = true;
    this.store?.committed();
    /** @type {Map<EndpointView, Exchange[]>} */
    const by = new Map();
    for (const exchange of exchanges) {
      if (exchange.role === "client") continue;
      const view = this.#viewOf(exchange);
      if (!view) continue;
      const list = by.get(view) ?? [];
      by.set(view, list);
      list.push(exchange);
    }
    const share = exchanges.length > 0 ? (exchanges.length + more) / exchanges.length : 1;
    for (const [view, list] of by) view.exchanges(list.slice(0, 24), list.length * share * 10 > 300 ? list.length * share * 10 : 0);
  }

  /** @param {import("../types.js").Conversations} event */
  conversations({ opened, half, ended, more }) {
    if (more > 0) this.served();
    for (const { conv, peer, ep, svc, proto, role } of opened) {
      if (role !== "client") this.#viewOf({ ep, svc, proto })?.opened(conv, peer);
    }
    for (const { conv } of half) {
      for (const { clients } of this.views.values()) {
        const client = clients.all.get(conv);
        if (client) clients.set(conv, client.peer, "half-closed");
      }
    }
    for (const { conv, peer, ep, svc, proto, role, reason } of ended) {
      if (role !== "client") this.#viewOf({ ep, svc, proto })?.ended(conv, peer, reason ?? "ended");
    }
    for (const { clients } of this.views.values()) clients.show();
  }

  /** @param {Tick} tick */
  tick(tick) {
    for (const second of tick.endpoints) {
      if (second.id === null) this.#viewOf(second);
    }
    // A server that the console has forgotten comes back under other ids. Asked once for the same ones.
    const strange = this.info ? tick.endpoints.map(({ id, ep }) => (id === null || this.views.has(keyOf(id, ep)) ? "" : id)).join("") : "";
    if (strange !== this.strange && strange) this.served();
    this.strange = strange;
    for (const view of this.views.values()) {
      const { id, ep, svc } = view.endpoint;
      const second = tick.endpoints.find((e) => (e.id ? e.id === id : e.ep === ep && e.svc === svc));
      const busiest = tick.clients.filter((client) => client.ep === ep && this.#only(view, client.conv));
      view.tick(second, busiest);
    }
    this.store?.tick(tick);
    this.#sum();
    void this.#askBytes();
  }

  /** The bytes so far of the clients that are shown. */
  async #askBytes() {
    const all = [...this.views.values()].map(({ clients }) => clients);
    const ids = all.flatMap((clients) => clients.unknown()).slice(0, ASKED_MOST);
    if (this.asking || document.hidden || ids.length === 0) return;
    this.asking = true;
    const spoke = (/** @type {boolean} */ isSo) => {
      for (const clients of all) for (const conv of ids) clients.spoke(conv, isSo);
    };
    spoke(false);
    try {
      const { conversations } = await api.get("/conversations", { q: `conv:${ids.join(",")}`, limit: ids.length });
      for (const clients of all) {
        for (const conversation of conversations) clients.count(conversation);
        clients.show();
      }
    } catch {
      spoke(true);
    }
    this.asking = false;
  }

  /** Two endpoints may have one short name: a client is of the one that knows it. @param {EndpointView} view @param {number} conv */
  #only(view, conv) {
    const same = [...this.views.values()].filter(({ endpoint }) => endpoint.ep === view.endpoint.ep);
    if (same.length < 2) return true;
    return same.find(({ clients }) => clients.all.has(conv)) === view;
  }

  /** @param {Endpoint} endpoint */
  endpoint(endpoint) {
    const view = this.views.get(keyOf(endpoint.id, endpoint.ep));
    view?.set(endpoint);
    this.#sum();
  }

  /** Clients that were connected before the page was opened. */
  async #askOpen() {
    try {
      const known = [...this.views.values()].map(({ clients }) => ({ clients, ids: [...clients.all.keys()] }));
      const { conversations, next } = await api.get("/conversations", { q: "is:open", limit: 100 });
      const open = new Set(conversations.map((/** @type {import("../types.js").Conversation} */ { conv }) => conv));
      // Those whose end was not told.
      if (next === null) for (const { clients, ids } of known) clients.keep(ids, open);
      for (const { conv, peer, ep, svc, proto, role, state } of conversations) {
        if (role !== "client") this.#viewOf({ ep, svc, proto })?.clients.set(conv, peer, state);
      }
      for (const view of this.views.values()) {
        view.clients.open = view.endpoint.open;
        view.clients.show();
      }
    } catch {
      // The list fills from the events.
    }
  }

  /** Rates and percentile of each endpoint over the last minute. */
  async #askMinute() {
    if (document.hidden || this.views.size === 0) return;
    try {
      const to = Date.now() * 1000;
      const stats = await api.get("/stats", { from_us: to - 60_000_000, to_us: to, step: "5s" });
      // The answer begins at a whole step, and its last step is not over yet.
      const seconds = (Math.min(stats.to_us, to) - stats.from_us) / 1e6;
      for (const view of this.views.values()) {
        const { ep, svc } = view.endpoint;
        const row = stats.by.find((/** @type {any} */ by) => by.ep === ep && by.svc === svc);
        view.minute = row ? { p99_ns: row.p99_ns, received: (row.request_bytes ?? 0) / seconds, sent: (row.reply_bytes ?? 0) / seconds } : null;
        view.show();
      }
    } catch {
      // Without these figures the card shows the others.
    }
  }

  /** The one line that stands for the tiers on a narrow screen. */
  #sum() {
    const views = [...this.views.values()];
    const stopped = views.filter(({ endpoint }) => endpoint.state !== "open").length;
    const open = views.reduce((sum, view) => sum + view.open, 0);
    const { silent } = this.hosts;
    const hangs = silent > 0 ? `; ${silent === 1 ? "1 process does" : `${count(silent)} processes do`} not answer` : "";
    const state = stopped === 0 ? "all open" : `${stopped} not open`;
    setText(this.words, `${counted(views.length, "endpoint")}, ${views.length === 1 && stopped === 0 ? "open" : state}; ${count(open)} connected${hangs}`);
  }

  #fold() {
    const open = this.section.classList.toggle("unfolded");
    this.toggle.setAttribute("aria-expanded", String(open));
    setText(this.toggle, open ? "Hide" : "Show");
  }
}

/** @param {number} id @param {string} ep */
function keyOf(id, ep) {
  return `${id} ${ep}`;
}
