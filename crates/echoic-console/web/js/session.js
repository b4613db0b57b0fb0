/**
 * The session: exchanges the token in the address (`#t=TOKEN`) for a cookie, and asks for the token where that fails.
 * @module
 */
import { api, whenLocked } from "./api.js";
import { el, fill } from "./dom.js";

/** @type {HTMLDialogElement | null} */
let dialog = null;

/** @param {string} token */
async function login(token) {
  await api.post("/session", { token });
}

/** Opens the session. Resolves once the console answers this browser. */
export async function openSession() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("t");
  if (token !== null) {
    history.replaceState(null, "", `${location.pathname}#/live`);
    try {
      await login(token);
    } catch {
      await askForToken("The token in the address is not the one of this console.");
    }
  }
  whenLocked(() => askForToken(""));
}

/**
 * Asks for the token, and reloads the page with it. Opens one dialog, however often it is called.
 * @param {string} why
 */
export function askForToken(why) {
  if (dialog) return new Promise(() => {});
  const field = el("input", { class: "field", id: "token", type: "password", autocomplete: "off", required: true });
  const mistake = el("p", { class: "err", role: "alert" }, why);
  const form = el(
    "form",
    {
      class: "login",
      /** @param {Event} event */
      async onsubmit(event) {
        event.preventDefault();
        try {
          const typed = field.value.trim();
          await login(typed.includes("#t=") ? typed.slice(typed.indexOf("#t=") + 3) : typed);
          location.reload();
        } catch (error) {
          fill(mistake, error instanceof Error ? error.message : String(error));
          field.select();
        }
      },
    },
    el("h2", { id: "login-head" }, "This console needs its token"),
    el("p", { class: "dim" }, "echoic prints the address with the token when it starts, or names the file that has it. Open that address, or paste it here."),
    el("label", { for: "token" }, "Token or address"),
    field,
    mistake,
    el("button", { class: "btn main", type: "submit" }, "Open the console"),
  );
  dialog = el("dialog", { class: "sheet", "aria-labelledby": "login-head" }, form);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.appendChild(dialog);
  dialog.showModal();
  field.focus();
  return new Promise(() => {});
}
