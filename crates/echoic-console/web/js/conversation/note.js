/**
 * The note on a conversation: read, and changed in place.
 * @module
 */
import { api } from "../api.js";
import { writtenNodes } from "../bytes.js";
import { el, fill } from "../dom.js";
import { showError } from "../icons.js";

export class Note {
  /** @param {number} id of the conversation @param {() => boolean} mayEdit */
  constructor(id, mayEdit) {
    this.id = id;
    this.mayEdit = mayEdit;
    this.text = "";
    this.editing = false;
    this.place = el("div", { class: "note" });
    this.node = el("section", { "aria-label": "Note" }, el("h3", {}, "Note"), this.place);
  }

  /** Shows a text. One that is shown already is not drawn again, so that a press on the button is not lost. @param {string} [text] */
  set(text = "") {
    const isNew = text !== this.text || this.may !== this.mayEdit();
    this.text = text;
    if (isNew && !this.editing) this.#draw();
  }

  #draw() {
    this.may = this.mayEdit();
    const words = this.text === "" ? el("p", { class: "dim" }, "No note yet.") : el("p", { class: "note-text" }, ...writtenNodes(this.text));
    const label = this.text === "" ? "Write a note" : "Edit";
    const edit = el("button", { class: "btn", type: "button", "aria-label": this.text === "" ? label : "Edit the note", onclick: () => this.edit() }, label);
    fill(this.place, words, this.may ? edit : null);
  }

  edit() {
    this.editing = true;
    const field = el("textarea", { "aria-label": "Note", maxlength: 4096 });
    field.value = this.text;
    const mistake = el("p", { class: "err", role: "alert", hidden: true });
    const done = () => {
      this.editing = false;
      this.#draw();
      this.place.querySelector("button")?.focus();
    };
    const save = async () => {
      const text = field.value.trim();
      try {
        await api.patch(`/conversations/${this.id}`, { note: text === "" ? null : text });
        this.text = text;
        done();
      } catch (error) {
        showError(mistake, error);
      }
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") done();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void save();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    fill(this.place, field, mistake, el("div", { class: "acts start" }, el("button", { class: "btn main", type: "button", onclick: save }, "Save"),
      el("button", { class: "btn", type: "button", onclick: done }, "Cancel")));
    field.focus();
  }
}
