/**
 * The elements of the Conversation screen.
 * @module
 */
import { el } from "../dom.js";
import { icon } from "../icons.js";

/** @typedef {import("./box.js").Look} Look */
/** @typedef {import("./pair.js").Times} Times */

/** @type {[Look["mode"], string, string][]} */
export const MODES = [["text", "Text", "Text"], ["hex", "Hex", "Hex"], ["both", "Both", "Text and hex"], ["escaped", "Escaped", "Escaped, as in a program"]];
/** @type {[Times, string, string][]} */
export const TIMES = [["clock", "Clock", "Clock time"], ["start", "Since start", "Since the start"], ["delta", "Δ", "Since the line before"]];

/** Returns a value of the list: the one named, else the first. @template {string} T @param {[T, ...string[]][]} list @param {string} value @returns {T} */
export function pick(list, value) {
  const found = list.find(([name]) => name === value) ?? list[0];
  return /** @type {T} */ (found?.[0]);
}

/** A row of buttons of which one is on. @template {string} T @param {string} label @param {[T, string, string][]} list @param {(value: T) => void} chosen */
function segment(label, list, chosen) {
  return el("span", { class: "seg", role: "group", "aria-label": label },
    ...list.map(([value, word, name]) => el("button", { type: "button", "data-value": value, title: name, "aria-label": value === "delta" ? name : null, onclick: () => chosen(value) }, word)));
}

/** @param {HTMLElement} group @param {string} value */
export function choose(group, value) {
  for (const button of group.children) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.value === value));
}

/**
 * @param {number} id
 * @param {{setMode: (mode: Look["mode"]) => void, setTimes: (times: Times) => void, toggleSpaces: () => void, toggleSide: () => void,
 *   editTags: () => void, toNewest: () => void}} does
 */
export function conversationParts(id, does) {
  return {
    title: el("div", { class: "title" }, el("h2", { class: "mono" }, `c${id}`)),
    tag: el("button", { class: "btn", type: "button", hidden: true, onclick: does.editTags }, icon("tag"), el("span", { class: "lbl opt" }, "Tag"), el("kbd", {}, "t")),
    modes: segment("Bytes", MODES, does.setMode),
    times: segment("Time", TIMES, does.setTimes),
    spaces: el("button", { class: "btn", type: "button", title: "Show spaces", onclick: does.toggleSpaces }, "a·b", el("span", { class: "sr" }, " show spaces"), el("kbd", {}, "w")),
    find: el("div", { class: "find" }),
    number: el("span", { class: "dim", role: "status" }),
    details: el("button", { class: "btn details", type: "button", "aria-pressed": "false", onclick: does.toggleSide }, icon("explain"), el("span", {}, "Details")),
    begin: el("div", {}),
    end: el("div", {}),
    list: el("section", { class: "talk", role: "log", "aria-live": "off", "aria-label": `Conversation c${id}`, tabindex: 0 }),
    pill: el("button", { class: "morebar", type: "button", hidden: true, onclick: does.toNewest }),
    calls: el("section", { hidden: true, "aria-label": "Socket calls" }),
    tls: el("section", { hidden: true, "aria-label": "TLS" }),
    box: el("div", { class: "conv" }),
    foot: el("footer", { class: "foot-bar" }),
    problem: el("p", { class: "banner bad", role: "alert", hidden: true }),
  };
}
