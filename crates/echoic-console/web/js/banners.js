/**
 * The banners over every screen: not connected, paused, the store failing, read only.
 * @module
 */
import { byId, el, fill } from "./dom.js";
import { clock, counted } from "./format.js";
import { icon } from "./icons.js";
import { stream } from "./stream.js";

/** @typedef {import("./types.js").Tick} Tick */
/** @typedef {import("./dom.js").Child} Child */

/** @param {string} kind @param {string} sign @param {string} head @param {...Child} rest */
function banner(kind, sign, head, ...rest) {
  return el("p", { class: `banner ${kind}` }, icon(sign), el("b", {}, head), ...rest);
}

/** Time in words since the connection was lost. @param {import("./types.js").Info | null} info */
function offBanner(info) {
  const { since, retryAt, stopped } = stream.state;
  const wait = retryAt === null ? 0 : Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  // The server that a console beside it shows may run on.
  const who = info && info.counts === null ? "The console" : "echoic";
  const head = stopped ? `${who} stopped at ${clock(since * 1000).slice(0, 8)}.` : `Not connected since ${clock(since * 1000).slice(0, 8)}.`;
  const next = wait > 0 ? ` Trying again in ${wait} s.` : " Trying again now.";
  const button = el("button", { class: "btn", type: "button", onclick: () => stream.retry() }, "Try now");
  return banner("bad", "plug", head, el("span", { class: "wait" }, `What you see is the last state.${next}`), button);
}

function pausedBanner() {
  const resume = el("button", { class: "btn", type: "button", onclick: () => stream.setPaused(false) }, "Resume");
  const waiting = stream.waiting > 0 ? `; ${counted(stream.waiting, "exchange")} ${stream.waiting === 1 ? "waits" : "wait"} here.` : ".";
  return banner("", "pause", "Paused.", el("span", { class: "wait" }, `Recording goes on${waiting}`), resume);
}

/** @param {NonNullable<Tick["failing"]>} failing */
function failingBanner(failing) {
  const head = `The store has been failing since ${clock(failing.since_us).slice(0, 8)}.`;
  return banner("bad", "alert", head, `${failing.why}. ${counted(failing.exchanges, "exchange")} not recorded so far; serving goes on.`);
}

/** Says what this page may not do. @param {boolean} readonly whether it was started with --console-readonly; if not, it shows a record and runs no server */
function readonlyBanner(readonly) {
  if (readonly) return banner("warn", "alert", "Read only.", "This console was started with --console-readonly: it sends, pauses, tags and notes nothing.");
  return banner("warn", "alert", "No server here.", "This console shows the record of another process: sending and pausing are off; tags and notes can be written.");
}

/** Shows the banners, and keeps them true. @param {import("./screens.js").Frame} frame */
export function showBanners(frame) {
  const place = byId("banners");
  /** @type {Tick["failing"]} */
  let failing = null;
  let drawn = "";

  const draw = () => {
    const { state, since, retryAt, stopped } = stream.state;
    const info = frame.info();
    const seconds = retryAt === null ? 0 : Math.ceil((retryAt - Date.now()) / 1000);
    const off = state === "off";
    const limited = info !== null && (info.readonly || !info.features.control);
    const key = JSON.stringify([off && since, off && seconds > 0, stopped, stream.paused, failing, limited, info?.readonly]);
    if (key === drawn) {
      update(place, off, seconds);
      return;
    }
    drawn = key;
    fill(
      place,
      off && offBanner(info),
      stream.paused && pausedBanner(),
      failing && failingBanner(failing),
      limited && readonlyBanner(info.readonly),
    );
  };

  for (const topic of ["state", "pause", "resume", "waiting"]) stream.subscribe(topic, draw);
  stream.subscribe("tick", (/** @type {Tick} */ tick) => {
    failing = tick.failing;
    draw();
  });
  setInterval(draw, 1000);
  draw();
}

/** Changes only the words that count: a button that is drawn again would lose the focus. @param {HTMLElement} place @param {boolean} off @param {number} seconds */
function update(place, off, seconds) {
  const [first, second] = place.querySelectorAll(".wait");
  if (off && first) first.textContent = `What you see is the last state. Trying again in ${Math.max(0, seconds)} s.`;
  const paused = off ? second : first;
  if (stream.paused && paused) paused.textContent = pausedBanner().querySelector(".wait")?.textContent ?? "";
}
