/**
 * The card of the third tier: recorder and store. Its figures add up: recorded, in the queue and lost are what was served.
 * @module
 */
import { el, fill, setText } from "../dom.js";
import { count, durationParts, size } from "../format.js";
import { Calls } from "./calls.js";

/** @typedef {import("../types.js").Info} Info */
/** @typedef {import("../types.js").Tick} Tick */

/** @type {Record<string, string>} */
const NAMES = { sqlite: "SQLite", memory: "Memory", postgres: "PostgreSQL" };

/** @param {string} name @param {string} [kind] */
function pair(name, kind = "") {
  const value = el("dd", { class: kind });
  return { name: el("dt", { class: kind }, name), value };
}

export class StoreCard {
  /** @param {Info} info */
  constructor(info) {
    const { store, recorder } = info;
    this.owned = recorder !== null;
    const calls = store.kind === "sqlite" ? ["open", "begin", "insert", "commit"] : ["append"];
    this.calls = new Calls(calls, ["open"]);
    this.figures = {
      recorded: pair("recorded"),
      waiting: pair("in the queue"),
      lost: pair("declared lost"),
      served: pair("served", "sum"),
      behind: pair("behind the wire"),
      durability: pair("durability"),
      bytes: pair("size"),
      retention: pair("keeps"),
      exchanges: pair("exchanges"),
    };
    const f = this.figures;
    const counts = this.owned ? [f.recorded, f.waiting, f.lost, f.served] : [f.exchanges];
    const rest = this.owned ? [f.behind, f.durability, f.bytes, f.retention] : [f.bytes];
    /** @param {{name: Element, value: Element}[]} list */
    const table = (list) => el("dl", { class: "kv" }, ...list.flatMap(({ name, value }) => [name, value]));
    const tag = el("span", { class: "tier-tag" }, "Data storage · ");
    this.node = el(
      "article",
      { class: "card store" },
      el("header", {}, el("h3", {}, tag, NAMES[store.kind] ?? store.kind), el("span", { class: "push mono", title: store.url }, store.name)),
      this.calls.node,
      table(counts),
      table(rest),
    );
    setText(f.durability.value, store.durability ?? "–");
    setText(f.retention.value, store.retention ?? "all");
    this.#show({ recorded: recorder?.recorded ?? 0, waiting: recorder?.waiting ?? 0, lost: recorder?.lost ?? 0,
      served: info.counts?.served ?? 0, behind_us: 0, bytes: store.bytes });
    setText(f.exchanges.value, count(store.exchanges));
    if (store.exchanges > 0) for (const call of calls) this.calls.done(call);
  }

  /** A batch was committed. */
  committed() {
    for (const call of ["begin", "insert", "commit", "append"]) this.calls.light(call, "act");
  }

  /** @param {Tick} tick */
  tick(tick) {
    this.#show(tick);
    // Without a recorder of its own the console counts what is in the store.
    if (!this.owned) setText(this.figures.exchanges.value, count(tick.recorded ?? 0));
  }

  /** @param {Pick<Tick, "recorded" | "waiting" | "lost" | "served" | "behind_us" | "bytes">} now */
  #show({ recorded, waiting, lost, served, behind_us, bytes }) {
    const f = this.figures;
    setText(f.recorded.value, count(recorded ?? 0));
    setText(f.waiting.value, count(waiting ?? 0));
    setText(f.lost.value, count(lost ?? 0));
    setText(f.served.value, count(served ?? 0));
    f.lost.value.classList.toggle("bad", (lost ?? 0) > 0);
    setText(f.behind.value, behind_us ? durationParts(behind_us * 1000).join(" ") : "0 ms");
    fill(f.bytes.value, bytes === null ? "–" : size(bytes));
  }
}
