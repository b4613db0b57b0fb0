/**
 * Acts on an open conversation: sends to its peer, ends our half, resets or closes it.
 * @module
 */
import { api } from "../api.js";
import { el, setText } from "../dom.js";
import { isDatagram } from "../format.js";
import { icon, showError } from "../icons.js";

/** @typedef {import("../types.js").Conversation} Conversation */

/** A press asks first; the second one within this time acts, in ms. */
const ASKED = 4000;

export class Composer {
  /** @param {Conversation} conversation */
  constructor(conversation) {
    const { conv, peer, proto, frame } = conversation;
    this.id = conv;
    this.field = el("input", { class: "field", "aria-label": "Message to the peer", placeholder: `Message to ${peer}`, autocomplete: "off", spellcheck: "false" });
    const datagram = isDatagram(proto);
    const framings = datagram ? ["text", "hex"] : [frame, "as typed", "hex"];
    this.frame = datagram ? null : frame;
    this.form = el("select", { "aria-label": "Framing" }, ...framings.map((name) => el("option", { value: name }, name)));
    this.error = el("p", { class: "err", role: "alert", hidden: true });
    const tcp = proto === "tcp" || proto === "tls";
    this.node = el(
      "form",
      { class: "composer", "aria-label": "Send into this conversation", onsubmit: (/** @type {Event} */ event) => this.#submit(event) },
      icon("left", "rep"),
      this.field,
      el("span", { class: "pick w2" }, this.form, icon("down")),
      el("button", { class: "btn main", type: "submit" }, icon("send"), el("span", { class: "lbl" }, "Send"), el("kbd", {}, "Enter")),
      datagram ? null : this.#act("half", "half", "Half-close", "End our half of the stream (FIN)"),
      tcp ? this.#act("rst", "bolt", "Reset", "Reset the connection (RST)") : null,
      this.#act("fin", "shut", "Close", datagram ? "End the conversation" : "Close in order (FIN)"),
      this.error,
    );
  }

  /** A button that acts when it is pressed twice. @param {string} how @param {string} sign @param {string} label @param {string} title */
  #act(how, sign, label, title) {
    const word = el("span", { class: "lbl" }, label);
    const button = el("button", { class: "btn", type: "button", title }, icon(sign), word);
    let asked = false;
    button.addEventListener("click", async () => {
      if (!asked) {
        asked = true;
        button.classList.add("ask");
        setText(word, `${label}?`);
        setTimeout(() => {
          asked = false;
          button.classList.remove("ask");
          setText(word, label);
        }, ASKED);
        return;
      }
      await this.#do(() => api.post(`/conversations/${this.id}/close`, { how }));
    });
    return button;
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    const chosen = this.form.value;
    const typed = this.field.value;
    const body = chosen === "hex" ? { hex: typed } : chosen === this.frame ? { text: typed, frame: this.frame } : { text: typed };
    const sent = await this.#do(() => api.post(`/conversations/${this.id}/send`, body));
    if (sent && this.field.value === typed) this.field.value = "";
  }

  /** @param {() => Promise<unknown>} act @returns {Promise<boolean>} */
  async #do(act) {
    this.error.hidden = true;
    try {
      await act();
      return true;
    } catch (error) {
      showError(this.error, error);
      return false;
    }
  }
}
