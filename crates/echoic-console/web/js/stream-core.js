/**
 * One connection to the live events: connects, tells its state, and connects again from the last exchange received.
 * Runs in a shared worker, or in the page that leads.
 * @module
 */

/** Names of the events of the console. */
export const TOPICS = ["hello", "batch", "conversations", "tick", "gap", "endpoint", "explain", "labels", "prune", "bye"];

/** Pauses before the next try, in ms; the last one repeats. */
const PAUSES = [500, 1000, 2000, 4000];
/** A tick comes every second: this long without any event means that the connection is gone. */
const SILENCE = 20_000;

/**
 * State of the connection: `connecting`, `live`, `off` (tries again at `retryAt`), `locked` (the console asks for its token).
 * @typedef {{state: "connecting" | "live" | "off" | "locked", since: number, retryAt: number | null, stopped: boolean}} StreamState
 */
/** @typedef {{topic: string, data: any}} StreamMessage */

export class StreamCore {
  /** @param {(message: StreamMessage) => void} emit receives each event, and `state` */
  constructor(emit) {
    this.emit = emit;
    /** @type {StreamState} */
    this.state = { state: "connecting", since: Date.now(), retryAt: null, stopped: false };
    /** The last of these events, for those that join later. @type {Map<string, any>} */
    this.latest = new Map();
    this.lastId = "";
    this.failures = 0;
    /** @type {EventSource | null} */
    this.source = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.watchdog = undefined;
  }

  /** Connects now. */
  connect() {
    clearTimeout(this.timer);
    this.source?.close();
    if (this.state.state !== "off") this.#tell({ state: "connecting", retryAt: null });
    const after = this.lastId ? `?after=${encodeURIComponent(this.lastId)}` : "";
    const source = new EventSource(`/api/v1/events${after}`);
    this.source = source;
    source.onerror = () => this.#lost(source);
    for (const topic of TOPICS) {
      source.addEventListener(topic, (event) => this.#receive(topic, /** @type {MessageEvent} */ (event)));
    }
    this.#watch();
  }

  /** Closes the connection for good. */
  close() {
    clearTimeout(this.timer);
    clearTimeout(this.watchdog);
    this.source?.close();
    this.lastId = "";
  }

  /** Messages that bring a page that joins up to date. @returns {StreamMessage[]} */
  welcome() {
    const latest = [...this.latest].map(([topic, data]) => ({ topic, data }));
    return [{ topic: "state", data: this.state }, ...latest];
  }

  /** @param {string} topic @param {MessageEvent} event */
  #receive(topic, event) {
    this.#watch();
    if (event.lastEventId) this.lastId = event.lastEventId;
    const data = JSON.parse(event.data || "{}");
    if (topic === "hello") {
      this.failures = 0;
      this.#tell({ state: "live", retryAt: null, stopped: false });
    }
    if (topic === "bye") this.#tell({ ...this.state, stopped: true });
    if (topic === "hello" || topic === "tick") this.latest.set(topic, data);
    this.emit({ topic, data });
  }

  /** @param {Partial<StreamState>} change */
  #tell(change) {
    const since = change.state && change.state !== this.state.state ? Date.now() : this.state.since;
    this.state = { ...this.state, ...change, since };
    this.emit({ topic: "state", data: this.state });
  }

  #watch() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.source && this.#lost(this.source), SILENCE);
  }

  /** @param {EventSource} source */
  async #lost(source) {
    if (source !== this.source) return;
    source.close();
    this.source = null;
    clearTimeout(this.watchdog);
    const pause = PAUSES[Math.min(this.failures++, PAUSES.length - 1)] ?? 0;
    this.#tell({ state: "off", retryAt: Date.now() + pause });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), pause);
    if (await isLocked()) {
      clearTimeout(this.timer);
      this.#tell({ state: "locked", retryAt: null });
    }
  }
}

/** Whether the console answers, and does not know this browser: EventSource does not tell the status. */
async function isLocked() {
  try {
    const answer = await fetch("/api/v1/info", { credentials: "same-origin", signal: AbortSignal.timeout(3000) });
    return answer.status === 401 || answer.status === 403;
  } catch {
    return false;
  }
}
