/**
 * The elements of the Conversations screen.
 * @module
 */
import { append, el } from "../dom.js";
import { icon } from "../icons.js";
import { conversationHead } from "./row.js";

/** @param {{stopOrGo: () => void, turn: () => void, markAll: () => void}} does */
export function conversationsParts(does) {
  const order = el("button", { class: "sort", type: "button", onclick: does.turn });
  const allBox = el("input", { type: "checkbox", "aria-label": "Mark all rows in view", tabindex: -1, onchange: does.markAll });
  const head = conversationHead(order, allBox);
  const footText = el("span", {});
  const keys = [["j k", "move"], ["Enter", "open"], ["x", "mark"], ["G", "newest"], ["?", "all keys"]];
  const hints = el("span", { class: "keys" }, ...keys.map(([key, does]) => el("span", {}, el("kbd", {}, key), ` ${does}`)));
  const grid = el("div", { class: "rows convs fill", role: "grid", "aria-label": "Conversations", "aria-rowcount": "1", "aria-multiselectable": "true" });
  append(grid, head);
  return {
    order,
    allBox,
    head,
    footText,
    grid,
    found: el("span", { class: "out", role: "status", hidden: true }),
    meter: el("progress", { class: "meter", max: "100", "aria-label": "Searched", hidden: true }),
    stop: el("button", { class: "btn quiet", type: "button", hidden: true, onclick: does.stopOrGo }, icon("x"), el("span", { class: "lbl" }, "Stop")),
    nothing: el("div", { class: "await", role: "status", hidden: true }),
    first: el("div", { class: "first", hidden: true }),
    foot: el("footer", { class: "foot-bar" }, footText, hints),
    list: el("div", { class: "listing fill" }),
  };
}
