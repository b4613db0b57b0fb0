/**
 * The session: exchanges the token in the address (`#t=TOKEN`) for a cookie, and asks for the token or the password where that fails.
 * @module
 */
import { api, neededSecret, whenLocked } from "./api.js";
import { el, fill, messageOf } from "./dom.js";

/** @typedef {import("./api.js").Secret} Secret */

/** What is asked, and what a change of it says. @type {Record<Secret, (why: string) => HTMLDialogElement>} */
const DIALOGS = { token: tokenDialog, password: passwordScreen };
/** @type {Record<Secret, string>} */
const AGAIN = {
  token: "echoic was started again, with another token.",
  password: "This session has ended: echoic was started again, or its password was changed.",
};

/** @type {HTMLDialogElement | null} */
let dialog = null;

/** @param {Partial<Record<Secret, string>>} secret */
async function login(secret) {
  await api.post("/session", secret);
}

/** Opens the session. Resolves once the console answers this browser. */
export async function openSession() {
  whenLocked((needs, again) => void ask(needs, again ? AGAIN[needs] : ""));
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("t");
  if (token !== null) {
    history.replaceState(null, "", `${location.pathname}#/live`);
    try {
      await login({ token });
    } catch {
      const needs = (await neededSecret()) ?? "token";
      await ask(needs, "The token in the address is not the one of this console.");
    }
  }
}

/** Asks once more, where the console knew this browser before. */
export async function askAgain() {
  const needs = await neededSecret();
  if (needs) await ask(needs, AGAIN[needs]);
}

/**
 * Asks for the token or the password, and reloads the page with it. Opens one dialog, however often it is called.
 * @param {Secret} needs @param {string} why
 * @returns {Promise<void>} never resolves: the page begins anew
 */
function ask(needs, why) {
  if (!dialog) {
    dialog = DIALOGS[needs](why);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.appendChild(dialog);
    dialog.showModal();
    /** @type {HTMLInputElement | null} */ (dialog.querySelector("input.field"))?.focus();
  }
  return new Promise(() => {});
}

/**
 * Returns a form that logs in with what is typed. A wrong value is said beside the field, which keeps the focus.
 * @param {HTMLInputElement} field @param {string} why @param {(typed: string) => Partial<Record<Secret, string>>} secret
 * @param {{head: Node[], button: string}} words
 */
function loginForm(field, why, secret, { head, button }) {
  const mistake = el("p", { class: "err", id: "login-err", role: "alert" }, why);
  let busy = false;
  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    if (busy) return;
    busy = true;
    try {
      await login(secret(field.value));
      location.reload();
    } catch (error) {
      fill(mistake, messageOf(error));
      field.setAttribute("aria-invalid", "true");
      field.select();
      field.focus();
    } finally {
      busy = false;
    }
  }
  field.setAttribute("aria-describedby", "login-err");
  return el("form", { class: "login", onsubmit: submit }, ...head, field, mistake, el("button", { class: "btn main", type: "submit" }, button));
}

/** @param {string} why */
function tokenDialog(why) {
  const field = el("input", { class: "field", id: "token", type: "password", autocomplete: "off", required: true });
  const head = [
    el("h2", { id: "login-head" }, "This console needs its token"),
    el("p", { class: "dim" }, "echoic prints the address with the token when it starts, or names the file that has it. Open that address, or paste it here."),
    el("label", { for: "token" }, "Token or address"),
  ];
  /** @param {string} typed */
  const secret = (typed) => ({ token: typed.trim().replace(/^.*#t=/, "") });
  return el("dialog", { class: "sheet", "aria-labelledby": "login-head" }, loginForm(field, why, secret, { head, button: "Open the console" }));
}

/**
 * The whole page is the login: nothing of the console is there yet. Password managers want a form with both fields, so it has a
 * user name, which the console does not look at.
 * @param {string} why
 */
function passwordScreen(why) {
  document.title = "Log in · echoic";
  const field = el("input", { class: "field", id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
  const head = [
    el("p", { class: "brand" }, document.querySelector(".brand svg")?.cloneNode(true) ?? null, "echoic"),
    el("h1", { id: "login-head" }, "Log in to this console"),
    el("p", { class: "dim" }, "Its password is what ECHOIC_PASSWORD says where echoic runs."),
    el("input", { type: "text", name: "username", autocomplete: "username", value: "echoic", hidden: true, readonly: true }),
    el("label", { for: "password" }, "Password"),
  ];
  return el("dialog", { class: "gate", "aria-labelledby": "login-head" }, loginForm(field, why, (password) => ({ password }), { head, button: "Log in" }));
}
