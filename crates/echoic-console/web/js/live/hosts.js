/**
 * What runs where: servers, workers, keepers and consoles on their hosts, each below its tier, and how far each is behind.
 * @module
 */
import { api } from "../api.js";
import { el, fill, setText } from "../dom.js";
import { counted, durationParts, size } from "../format.js";
import { icon } from "../icons.js";

/** @typedef {import("../types.js").Process} Process */
/** @typedef {import("../types.js").Info} Info */

/** The processes are asked for so often, in ms. */
const ASK_EVERY = 2000;
/** The endpoints are read so often for the same servers: one that has none, or is not controlled, stays without. */
const READS = 10;
/** Rows of a card; the others are counted. */
const SHOWN = 8;

/** @type {Record<string, [sign: string, kind: string, word: string]>} */
const LOOKS = {
  running: ["open", "", "running"],
  stopping: ["drain", "warn", "stopping"],
  silent: ["alert", "bad", "no answer"],
};

class Card {
  /** @param {string} title @param {string} kind */
  constructor(title, kind) {
    this.title = title;
    this.words = document.createTextNode(title);
    this.list = el("ul", { class: "hosts" });
    this.node = el("article", { class: `card host-card ${kind}` }, el("header", {}, el("h3", {}, this.words)), this.list);
    this.drawn = "";
  }

  /** @param {Process[]} processes @param {number} now @param {Info} info @param {string} none what to say without one */
  show(processes, now, info, none) {
    const shown = processes.slice(0, SHOWN).map((process) => cells(process, now, info.version));
    const key = JSON.stringify([shown, processes.length, none]);
    if (key === this.drawn) return;
    this.drawn = key;
    setText(this.words, processes.length > 1 ? `${this.title} (${processes.length})` : this.title);
    this.node.classList.toggle("waiting", processes.length === 0);
    this.node.hidden = processes.length === 0 && none === "";
    const more = processes.length > SHOWN ? el("li", { class: "dim" }, `and ${processes.length - SHOWN} more`) : null;
    if (processes.length === 0) fill(this.list, el("li", { class: "dim" }, none));
    else fill(this.list, ...shown.map(row), more);
  }
}

export class Hosts {
  /** @param {() => void} changed called after each answer @param {() => void} served called while the endpoints are not those of the servers */
  constructor(changed, served) {
    this.changed = changed;
    this.served = served;
    /** @type {Process[]} */
    this.all = [];
    this.now = 0;
    /** @type {Info | null} */
    this.info = null;
    /** The servers of the last answer, and how often the endpoints may still be read for them. */
    this.known = "";
    this.reads = READS;
    this.asking = false;
    this.cards = [new Card("Consoles", "host-ui"), new Card("Servers and workers", "host-work"), new Card("Keepers", "host-store")];
    this.timer = setInterval(() => this.#ask(), ASK_EVERY);
  }

  destroy() {
    clearInterval(this.timer);
  }

  get nodes() {
    return this.info?.features.processes ? this.cards.map(({ node }) => node) : [];
  }

  /** @param {Info} info */
  set(info) {
    this.info = info;
    this.#show();
    void this.#ask();
  }

  /** The server that has an endpoint. @param {string | undefined} id */
  server(id) {
    return this.all.find((process) => process.role === "serve" && process.id === id);
  }

  /** What stands beside the names of the tiers, if it is known. @returns {{processing: string, storage: string} | null} */
  get words() {
    if (!this.info?.features.processes || this.all.length === 0) return null;
    const servers = this.#counted("serve", "server");
    const workers = this.#counted("work", "worker");
    const keepers = this.#counted("keep", "keeper");
    return { processing: workers ? `${servers || "no server"}, ${workers}` : servers || "no server", storage: keepers || "store" };
  }

  /** How many do not answer. */
  get silent() {
    return this.all.filter(({ state }) => state === "silent").length;
  }

  /** How many there are, and how many of them do not answer. @param {string} role @param {string} one */
  #counted(role, one) {
    const all = this.all.filter((process) => process.role === role);
    const silent = all.filter(({ state }) => state === "silent").length;
    if (all.length === 0) return "";
    return `${counted(all.length, one)}${silent > 0 ? ` (${silent === all.length ? "" : `${silent} `}no answer)` : ""}`;
  }

  async #ask() {
    if (!this.info?.features.processes || document.hidden || this.asking) return;
    this.asking = true;
    try {
      const answer = await api.get("/processes");
      this.all = answer.processes;
      this.now = answer.now_us;
      this.#show();
      this.changed();
      this.#compare();
    } catch {
      // The last answer stays; a console that is gone has its own banner.
    } finally {
      this.asking = false;
    }
  }

  /** Has the endpoints read again until they are those of the servers that answer: they are known a moment later. */
  #compare() {
    const serving = this.all.filter(({ role, state }) => role === "serve" && state !== "silent").map(({ id }) => id);
    const shown = (this.info?.endpoints ?? []).map(({ server }) => server).filter((id) => id !== undefined);
    const known = serving.join(" ");
    if (known !== this.known) this.reads = READS;
    this.known = known;
    const same = serving.every((id) => shown.includes(id)) && shown.every((id) => serving.includes(id));
    if (same || this.reads === 0) return;
    this.reads -= 1;
    this.served();
  }

  #show() {
    const { info, all, now, cards } = this;
    if (!info) return;
    /** @param {string[]} roles */
    const of = (...roles) => all.filter(({ role }) => roles.includes(role));
    const [consoles, processing, keepers] = cards;
    const none = now === 0 ? "Asking who is there." : "No server answers at NATS.";
    consoles?.show(of("console", "other"), now, info, "");
    processing?.show(of("serve", "work"), now, info, none);
    const keeping = of("keep");
    const streams = all.filter(({ state, stream }) => stream && state !== "silent").map(({ stream }) => stream);
    const [stream] = streams;
    // One that does not answer is behind all the same: servers tell of the stream too.
    const known = keeping.map((keeper) => (keeper.state === "silent" && keeper.stream ? { ...keeper, stream: streams.find((it) => it?.name === keeper.stream?.name) ?? null } : keeper));
    keepers?.show(known, now, info, stream ? `No keeper for ${stream.name}: ${inStream(stream, now)}.` : "");
  }
}

/**
 * The texts of a row.
 * @param {Process} process @param {number} now @param {string} ours our version
 */
function cells(process, now, ours) {
  const { role, host, pid, version, state, failing, svc } = process;
  const [sign, kind, word] = failing ? ["alert", "bad", "not recording"] : (LOOKS[state] ?? ["shut", "", state]);
  const silent = state === "silent" && process.seen_us !== null ? ` for ${age(process.seen_us, now)}` : "";
  return {
    role: role === "work" && svc ? `work ${svc}` : role,
    name: `${host}:${pid}`,
    version: version === ours ? "" : version,
    lag: state === "silent" && role !== "keep" ? "" : lag(process, now),
    sign,
    kind,
    word: `${word}${silent}`,
    title: failing ?? `echoic ${version}`,
  };
}

/** @param {ReturnType<typeof cells>} cells */
function row({ role, name, version, lag: behind, sign, kind, word, title }) {
  const other = version ? el("span", { class: "pill" }, version) : null;
  return el(
    "li",
    { title },
    el("span", { class: "process" }, el("span", { class: "dim" }, role), " ", el("span", { class: "mono" }, name), other),
    el("span", { class: "num lag" }, behind),
    el("span", { class: `out ${kind}` }, icon(sign), word),
  );
}

/** How far a process is behind. @param {Process} process @param {number} now */
function lag({ role, runs, record, stream }, now) {
  if (role === "work") return runs ? `${runs.pending} pending, ${runs.in_flight} in flight` : "";
  if (role === "keep" && stream) return inStream(stream, now);
  if (role === "serve" && record) {
    const lost = record.lost > 0 ? `, ${counted(record.lost, "exchange")} lost` : "";
    return record.waiting_bytes > 0 ? `${size(record.waiting_bytes)} unacknowledged${lost}` : `all acknowledged${lost}`;
  }
  return "";
}

/** What a stream holds that is not stored. @param {NonNullable<Process["stream"]>} stream @param {number} now */
function inStream({ pending, oldest_us }, now) {
  if (pending === null) return "lag unknown";
  if (pending === 0) return "all stored";
  const oldest = oldest_us === null ? "" : `, oldest ${age(oldest_us, now)}`;
  return `${counted(pending, "batch", "batches")} waiting${oldest}`;
}

/** @param {number} at @param {number} now */
function age(at, now) {
  return durationParts(Math.max(0, now - at) * 1000).join(" ");
}
