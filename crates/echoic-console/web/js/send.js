/**
 * The Send drawer: a client in the page, over any screen. What it sends is a real call, recorded once.
 * @module
 */
import { api, isAbort } from "./api.js";
import { copyButton } from "./copy.js";
import { byId, el, fill, messageOf, setText } from "./dom.js";
import { icon } from "./icons.js";
import { register } from "./keys.js";
import { Answer } from "./send/answer.js";
import { Form } from "./send/form.js";

/** @typedef {import("./screens.js").Frame} Frame */
/** @typedef {import("./types.js").Info} Info */

class Drawer {
  /** @param {Frame} frame */
  constructor(frame) {
    this.frame = frame;
    this.sending = false;
    /** The last call, to send it again. @type {{body: unknown, where: string} | null} */
    this.last = null;
    /** @type {Element | null} */
    this.opener = null;
    this.answer = new Answer();
    this.code = el("code", {});
    this.sendWord = el("span", {}, "Send");
    this.sendButton = el("button", { class: "btn main", type: "button", onclick: () => this.send() }, icon("send"), this.sendWord, el("kbd", {}, "Ctrl Enter"));
    this.againButton = el("button", { class: "btn", type: "button", disabled: true, onclick: () => this.again() }, icon("replay"), el("span", { class: "lbl" }, "Send again"), el("kbd", {}, "."));
    const close = el("button", { class: "btn quiet", type: "button", onclick: () => this.close() }, icon("x"), el("span", { class: "lbl" }, "Close"), el("kbd", {}, "Esc"));
    this.form = new Form(() => setText(this.code, this.form?.command() ?? ""));
    this.node = el("section", { class: "drawer", id: "send-drawer", role: "dialog", "aria-label": "Send", hidden: true },
      el("header", { role: "none" }, el("h2", {}, "Send"), el("span", { class: "dim opt" }, "as a client, over a conversation of its own"), el("span", { class: "push" }), close),
      this.form.node,
      el("div", { class: "two" }, this.form.pane, this.answer.node),
      el("footer", { role: "none" }, this.sendButton, this.againButton, el("span", { class: "push" }), this.code, copyButton("Copy as command", "Copy as command", () => this.form.command(), { opt: true })),
    );
    this.node.addEventListener("keydown", (event) => this.#onKey(event));
    document.querySelector(".screen")?.append(this.node);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    void this.send();
  }

  async open() {
    if (this.node.hidden) this.opener = document.activeElement;
    this.node.hidden = false;
    byId("send").setAttribute("aria-expanded", "true");
    const info = this.frame.info();
    if (info) this.form.setPlaces(info);
    this.form.text.focus();
    try {
      this.form.setPlaces(await this.frame.refreshInfo());
    } catch {
      // The endpoints known before are shown; sending tells what is wrong.
    }
  }

  close() {
    this.node.hidden = true;
    byId("send").setAttribute("aria-expanded", "false");
    const { opener } = this;
    const back = opener instanceof HTMLElement && opener.isConnected && opener !== document.body ? opener : byId("send");
    back.focus();
  }

  /** Sends what is typed. */
  async send() {
    if (this.sending) return;
    try {
      this.last = { body: this.form.body(), where: this.form.toWords };
    } catch (error) {
      this.answer.failed(messageOf(error));
      return;
    }
    await this.again();
  }

  /** Sends the last call again, as it was. */
  async again() {
    const { last } = this;
    if (this.sending || !last) return;
    this.#busy(true);
    this.answer.sending(last.where);
    try {
      this.answer.show(await api.post("/send", last.body));
    } catch (error) {
      if (!isAbort(error)) this.answer.failed(messageOf(error));
    } finally {
      this.#busy(false);
    }
  }

  /** @param {boolean} busy */
  #busy(busy) {
    this.sending = busy;
    this.sendButton.setAttribute("aria-disabled", String(busy));
    setText(this.sendWord, busy ? "Sending…" : "Send");
    this.againButton.disabled = busy || this.last === null;
  }
}

/** @type {Drawer | null} */
let drawer = null;
/** @type {(() => void) | null} */
let leaveKeys = null;

/** Whether this console can send. @param {Info} info */
const canSend = (info) => info.features.send && !info.readonly && info.endpoints.length + info.targets.length > 0;

/** Shows the Send button and its shortcuts where the console can send, and takes them away where it cannot. @param {Frame} frame @param {Info} info */
export function offerSend(frame, info) {
  const button = byId("send");
  const can = canSend(info);
  if (can === !button.hidden) return;
  button.hidden = !can;
  leaveKeys?.();
  leaveKeys = null;
  if (!can) {
    if (drawer) drawer.node.hidden = true;
    return;
  }
  if (!button.hasChildNodes()) {
    fill(button, icon("send"), el("span", { class: "lbl" }, "Send"), el("kbd", {}, "n"));
    button.addEventListener("click", () => (drawer && !drawer.node.hidden ? drawer.close() : openSend(frame)));
  }
  leaveKeys = register(
    { keys: "n", does: "Send as a client", group: "Send", run: () => void openSend(frame) },
    { keys: ".", does: "Send the last again", group: "Send", run: () => sendAgain(frame) },
    { keys: "Escape", does: "Close the drawer", group: "Send", run: closeIfOpen },
  );
}

/**
 * Opens the drawer. With a text it sends it at once.
 * @param {Frame} frame @param {{text?: string, endpoint?: number}} [preset]
 */
async function openSend(frame, preset = {}) {
  drawer ??= new Drawer(frame);
  const opened = drawer.open();
  if (preset.text === undefined) return;
  await opened;
  drawer.form.setHex(false);
  drawer.form.text.value = preset.text;
  drawer.form.choosePlace(`e${preset.endpoint}`);
  drawer.form.show();
  await drawer.send();
}

/**
 * What the button of the first run does: it sends hello to an endpoint. Null where the console cannot send.
 * @param {Frame} frame @param {Info} info @returns {((endpoint: import("./types.js").Endpoint) => void) | null}
 */
export function helloSender(frame, info) {
  return canSend(info) ? ({ id }) => void openSend(frame, { text: "hello", endpoint: id }) : null;
}

/** @param {Frame} frame */
function sendAgain(frame) {
  if (!drawer?.last) return false;
  void openSend(frame);
  void drawer.again();
  return true;
}

function closeIfOpen() {
  if (!drawer || drawer.node.hidden) return false;
  drawer.close();
  return true;
}
