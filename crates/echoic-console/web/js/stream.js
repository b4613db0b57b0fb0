/**
 * The live events of the console, for the screens. All tabs of a browser share one connection, because a browser opens at most
 * six to one server. While the page is paused, what is shown stays: events of traffic are counted and not passed on.
 * @module
 */
import { StreamCore } from "./stream-core.js";

/** @typedef {import("./stream-core.js").StreamState} StreamState */
/** @typedef {import("./stream-core.js").StreamMessage} StreamMessage */

/** Events of traffic, which a pause holds back. */
const TRAFFIC = new Set(["batch", "conversations", "tick", "gap"]);
const CHANNEL = "echoic-stream";
const WORKER = "/assets/js/stream-worker.js";

/** @type {Map<string, Set<(data: any) => void>>} */
const subscribers = new Map();

export const stream = {
  /** @type {StreamState} */
  state: { state: "connecting", since: Date.now(), retryAt: null, stopped: false },
  paused: false,
  /** Exchanges that came during the pause. */
  waiting: 0,

  /**
   * Calls `fn` for each event of a topic: those of the API, and `state`, `pause`, `resume`. Returns the way out.
   * @param {string} topic @param {(data: any) => void} fn @returns {() => void}
   */
  subscribe(topic, fn) {
    const all = subscribers.get(topic) ?? new Set();
    subscribers.set(topic, all);
    all.add(fn);
    return () => all.delete(fn);
  },

  /** Tries to connect at once. */
  retry: () => {},

  /** Stops or resumes what moves on the page; recording goes on. @param {boolean} paused */
  setPaused(paused) {
    if (this.paused === paused) return;
    this.paused = paused;
    const waited = this.waiting;
    this.waiting = 0;
    publish(paused ? "pause" : "resume", { exchanges: waited });
  },

  /** Connects. */
  start() {
    if ("SharedWorker" in window) startWorker();
    else startLeader();
  },
};

/** @param {string} topic @param {any} data */
function publish(topic, data) {
  for (const fn of subscribers.get(topic) ?? []) fn(data);
}

/** @param {StreamMessage} message */
function receive({ topic, data }) {
  if (topic === "state") stream.state = data;
  if (stream.paused && TRAFFIC.has(topic)) {
    if (topic === "batch") stream.waiting += data.exchanges.length + data.more;
    if (topic === "gap") stream.waiting += data.n ?? 0;
    publish("waiting", stream.waiting);
    return;
  }
  publish(topic, data);
}

/** The worker's address as Trusted Types want it. The policy makes no other: it is the only one the console allows. */
function workerUrl() {
  const types = /** @type {any} */ (window).trustedTypes;
  if (!types) return WORKER;
  return types.createPolicy("echoic", { createScriptURL: () => WORKER }).createScriptURL("");
}

function startWorker() {
  const worker = new SharedWorker(workerUrl(), { type: "module", name: "echoic" });
  worker.port.onmessage = (event) => receive(event.data);
  stream.retry = () => worker.port.postMessage("retry");
  addEventListener("pagehide", () => worker.port.postMessage("leave"));
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

/** Without shared workers one tab leads: it holds the lock and the connection, and tells the others by a channel. */
function startLeader() {
  const channel = new BroadcastChannel(CHANNEL);
  /** @type {StreamCore | null} */
  let core = null;
  channel.onmessage = ({ data }) => {
    if (data.wish === "retry") core?.connect();
    else if (data.wish === "join") {
      for (const message of core?.welcome() ?? []) channel.postMessage(message);
      if (core?.state.state === "locked") core.connect();
    }
    else if (data.topic) receive(data);
  };
  stream.retry = () => (core ? core.connect() : channel.postMessage({ wish: "retry" }));
  channel.postMessage({ wish: "join" });
  navigator.locks.request(CHANNEL, () => {
    core = new StreamCore((message) => {
      channel.postMessage(message);
      receive(message);
    });
    core.connect();
    return new Promise(() => {});
  });
}
