/**
 * Shortcuts: registered with a description, so that the help names exactly those that work. Single keys are inert while text is
 * typed, and can be switched off (WCAG 2.1.4).
 * @module
 */
import { setSetting, setting } from "./settings.js";

/**
 * @typedef {object} Shortcut
 * @property {string} keys one key (`/`), or two pressed after one another (`g l`)
 * @property {string} does what it does, for the help
 * @property {string} group heading in the help
 * @property {(event: KeyboardEvent) => void | boolean} run returns false if the key was not for it
 */

/** @type {Shortcut[]} */
const shortcuts = [];
/** Longest pause between the two keys of a pair, in ms. */
const PAIR = 1500;
let first = "";
let firstAt = 0;

/** Registers shortcuts. Returns the way to remove them. @param {...Shortcut} added @returns {() => void} */
export function register(...added) {
  shortcuts.push(...added);
  return () => {
    for (const shortcut of added) {
      const at = shortcuts.indexOf(shortcut);
      if (at >= 0) shortcuts.splice(at, 1);
    }
  };
}

/** The shortcuts that work now. */
export function registered() {
  return [...shortcuts];
}

export function singleKeysOn() {
  return setting("single-keys", "on") === "on";
}

/** @param {boolean} on */
export function setSingleKeys(on) {
  setSetting("single-keys", on ? "on" : "off");
}

/** Whether the element takes text. @param {EventTarget | null} target */
export function takesText(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "submit"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

/** Whether the element itself acts on the key. @param {EventTarget | null} target @param {string} key */
function actsOn(target, key) {
  if (!(target instanceof HTMLElement)) return false;
  const button = target.closest("button, summary, input");
  // Enter does nothing to a box: it opens the row that was marked.
  if (key === "Enter" && target.matches("[type='checkbox']")) return false;
  return (key === " " && !!button) || (key === "Enter" && !!(button ?? target.closest("a")));
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const { key, target } = event;
  const always = key === "Escape";
  // An open dialog takes all keys itself.
  if (document.querySelector("dialog[open]") || (!always && (takesText(target) || actsOn(target, key)))) return;
  if (!always && key.length === 1 && !singleKeysOn()) return;
  const pair = event.timeStamp - firstAt < PAIR ? `${first} ${key}` : "";
  first = "";
  // The newest registration first: a screen may take a key from the frame. One that it was not for leaves it to the others.
  const newest = registered().reverse();
  const found = [pair, key === " " ? "space" : key].flatMap((keys) => newest.filter((s) => s.keys === keys));
  if (found.some((s) => s.run(event) !== false)) event.preventDefault();
  else if (found.length === 0 && shortcuts.some((s) => s.keys.startsWith(`${key} `))) {
    first = key;
    firstAt = event.timeStamp;
  }
}

export function startKeys() {
  document.addEventListener("keydown", onKey);
}
