/**
 * Copies text, and says so on the button itself: no message flies in.
 * @module
 */
import { el, fill, setText } from "./dom.js";
import { icon } from "./icons.js";

/** How long a button says that it has copied, in ms. */
const TOLD = 1600;

/** @param {string} text @returns {Promise<boolean>} whether the browser allowed it */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Creates a button that copies.
 * @param {string} label word on the button @param {string} name its name for screen readers @param {() => string} text
 * @param {{quiet?: boolean, icon?: string, opt?: boolean}} [look] `opt`: below 1200 px its word is for screen readers only
 */
export function copyButton(label, name, text, look = {}) {
  const word = el("span", { class: look.opt ? "lbl opt" : "lbl" }, label);
  const sign = el("span", { class: "sign" }, icon(look.icon ?? "copy"));
  const button = el("button", { class: look.quiet === false ? "btn" : "btn quiet", type: "button", "aria-label": name }, sign, word);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let told;
  button.addEventListener("click", async () => {
    const done = await copyText(text());
    setText(word, done ? "Copied" : "Not allowed");
    fill(sign, icon(done ? "check" : "x"));
    button.setAttribute("aria-label", done ? "Copied" : "The browser does not allow to copy");
    clearTimeout(told);
    told = setTimeout(() => {
      setText(word, label);
      fill(sign, icon(look.icon ?? "copy"));
      button.setAttribute("aria-label", name);
    }, TOLD);
  });
  return button;
}
