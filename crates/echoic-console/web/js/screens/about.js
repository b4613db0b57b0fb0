/**
 * About: what runs here, where it records, what it limits, and how to reach it from elsewhere.
 * @module
 */
import { isAbort } from "../api.js";
import { copyButton } from "../copy.js";
import { el, fill, messageOf } from "../dom.js";
import { bare, count, counted, dateTime, durationParts, isDatagram, size, storeOption } from "../format.js";
import { toggleHelp } from "../help.js";
import { icon } from "../icons.js";

/** @typedef {import("../types.js").Info} Info */
/** @typedef {import("../dom.js").Child} Child */
/** @typedef {import("../screens.js").Frame} Frame */

/** @param {string} title @param {Child[]} children @param {string} [kind] */
function card(title, children, kind = "") {
  return el("section", { class: `card ${kind}`, "aria-label": title }, el("header", {}, el("h2", {}, title)), ...children);
}

/** @param {[string, Child, string?][]} facts name, value, class */
function list(facts) {
  return el("dl", { class: "kv" }, ...facts.flatMap(([name, value, kind]) => [el("dt", {}, name), el("dd", { class: kind ?? "" }, value)]));
}

/** @param {number | null} us */
const time = (us) => (us === null ? "–" : dateTime(us).slice(0, 19));

/** @param {Info} info */
function versionCard(info) {
  const up = durationParts((info.now_us - info.started_us) * 1000).join(" ");
  const { control, labels, live } = info.features;
  const can = [control && "pause, close and send", labels && "tags and notes"].filter(Boolean).join("; ");
  return card("echoic", [list([
    ["version", info.version],
    ["API", `v${info.v}`],
    ["process", `pid ${info.pid}, instance ${info.instance}`, "mono"],
    ["started", `${time(info.started_us)}, ${up} ago`],
    ["allowed here", info.readonly ? "reading only (--console-readonly)" : can || "reading only"],
    ["events come from", live === "feed" ? "the recorder, as they happen" : "the store, every 200 ms"],
  ])]);
}

/** @param {Info} info */
function storeCard({ store, recorder }) {
  const counts = recorder === null ? [] : /** @type {[string, Child, string?][]} */ ([
    ["waiting to be recorded", count(recorder.waiting)],
    ["declared lost", count(recorder.lost), recorder.lost > 0 ? "bad" : ""],
  ]);
  return card("Store", [list([
    ["location", store.url, "mono"],
    ["kind", store.kind],
    ["holds", `${counted(store.exchanges, "exchange")} of ${counted(store.conversations, "conversation")}`],
    ["size", store.bytes === null ? "–" : size(store.bytes)],
    ["oldest", time(store.oldest_us)],
    ["newest", time(store.newest_us)],
    ["keeps (--retention)", store.retention ?? "as its server says"],
    ["durability (--durability)", store.durability ?? "as its server says"],
    ...counts,
  ])]);
}

/** @param {string[]} heads those of numbers end with # @param {HTMLElement[]} rows @param {string} [kind] */
function table(heads, rows, kind = "") {
  return el("div", { class: "table-wrap tall", tabindex: "0", role: "region", "aria-label": heads.join(", ").replaceAll("#", "") },
    el("table", { class: `data ${kind}` }, el("thead", {}, el("tr", {}, ...heads.map(headCell))), el("tbody", {}, ...rows)));
}

/** @param {string} text */
const headCell = (text) => el("th", { scope: "col", class: text.endsWith("#") ? "num" : "" }, text.replace("#", ""));

/** @param {Info} info */
function endpointsCard({ endpoints, targets, counts }) {
  const own = endpoints.map(({ proto, addrs, ep, svc, frame, state, open, accepted, rejected }) =>
    el("tr", {}, el("th", { scope: "row" }, el("span", { class: isDatagram(proto) ? "pill dgram" : "pill" }, proto.toUpperCase()), " ", addrs.map(bare).join(", ") || ep),
      el("td", {}, svc), el("td", {}, isDatagram(proto) ? "datagrams" : frame), el("td", {}, state), el("td", { class: "num" }, count(open)), el("td", { class: "num" }, count(accepted)), el("td", { class: "num" }, count(rejected))));
  const rest = targets.map(({ url }) => el("tr", {}, el("th", { scope: "row" }, url), el("td", { colspan: "6" }, "may be sent to (--console-send)")));
  const sum = counts && el("p", { class: "dim" }, `${counted(counts.accepted, "conversation")} accepted, ${count(counts.rejected)} rejected, ${count(counts.open)} open; ${counted(counts.served, "exchange")} served.`);
  if (own.length + rest.length === 0) return card("Endpoints", [el("p", { class: "dim" }, "This console watches a store; another process serves.")], "wide");
  return card("Endpoints", [table(["Address", "Service", "Framing", "State", "Open#", "Accepted#", "Rejected#"], [...own, ...rest], "ends"), sum && el("div", { class: "foot-line" }, sum)], "wide flush");
}

/** @param {Info} info */
function limitsCard({ limits }) {
  if (limits.length === 0) return null;
  const rows = limits.map(({ flag, value, meaning }) => el("tr", {}, el("th", { scope: "row" }, flag), el("td", {}, value), el("td", {}, meaning)));
  return card("Limits", [table(["Option", "Value", "Meaning"], rows)], "wide flush");
}

function reachCard() {
  const { hostname, port, origin } = location;
  const command = `ssh -N -L ${port}:${hostname}:${port} USER@HOST`;
  return card("From another machine", [
    el("p", {}, "The console answers on this machine alone. ssh brings it to another one: run this there, with your user and this machine's name, and open the same address."),
    el("pre", { tabindex: "0" }, command),
    copyButton("Copy", "Copy the ssh command", () => command),
    el("p", { class: "dim" }, `The port has to be the same on both, since the console answers to ${origin} alone. The address with the token is the one that echoic printed or wrote to its file.`),
  ]);
}

/** @param {Info} info */
function scriptsCard(info) {
  const links = /** @type {[string, string][]} */ ([
    ["/api/v1", "The API in plain text, for people and language models"],
    ["/api/v1/openapi.json", "The API as OpenAPI"],
    ["/readyz", "Whether it serves and records"],
  ]);
  const ways = links.map(([address, words]) => el("li", {}, el("a", { href: address, target: "_blank", rel: "noopener" }, words), " ", el("code", { class: "dim" }, address)));
  return card("Scripts and terminals", [
    el("ul", { class: "links-list" }, ...ways),
    el("p", { class: "dim" }, "Scripts send the token: Authorization: Bearer TOKEN. So does Prometheus, for /metrics. In a terminal, the same record:"),
    el("pre", { tabindex: "0" }, `echoic log${storeOption(info)}`),
    el("button", { class: "btn", type: "button", onclick: toggleHelp }, icon("keys"), "Keys and settings", el("kbd", {}, "?")),
  ]);
}

/** @param {HTMLElement} place @param {Info} info */
function show(place, info) {
  const cards = [versionCard(info), storeCard(info), endpointsCard(info), reachCard(), scriptsCard(info), limitsCard(info)];
  fill(place, ...cards);
}

/** @param {Frame} frame @returns {import("../screens.js").Screen} */
export function mount(frame) {
  const place = el("div", { class: "about" }, el("p", { class: "dim" }, "…"));
  fill(frame.main, el("h1", { class: "sr" }, "About"), place);
  let gone = false;
  const load = async () => {
    try {
      const info = await frame.refreshInfo();
      if (!gone) show(place, info);
    } catch (error) {
      if (!gone && !isAbort(error)) fill(place, el("p", { class: "await", role: "status" }, messageOf(error)));
    }
  };
  void load();
  return {
    update: () => void load(),
    command: () => "echoic limits",
    unmount: () => {
      gone = true;
    },
  };
}
