/**
 * The dialog that adds and removes tags.
 * @module
 */
import { api } from "./api.js";
import { el, fill } from "./dom.js";
import { counted } from "./format.js";
import { icon, showError } from "./icons.js";

/** Tags proposed. */
const PROPOSED = 12;

/**
 * Opens the dialog. `apply` is called with the changes, and may fail with a message.
 * @param {{title: string, tags: string[], apply: (add: string[], remove: string[]) => Promise<void>}} options
 */
export async function editTags({ title, tags, apply }) {
  const back = /** @type {HTMLElement | null} */ (document.activeElement);
  const kept = new Set(tags);
  const field = el("input", { class: "field", id: "new-tags", autocomplete: "off", spellcheck: "false", placeholder: "ci slow" });
  const mistake = el("p", { class: "err", role: "alert", hidden: true });
  const present = el("div", { class: "tags-now" });
  const known = el("div", { class: "tags-now" });
  const draw = () => fill(present, ...[...kept].map((tag) => tagButton(tag, `Remove tag ${tag}`, "x", () => {
    kept.delete(tag);
    draw();
    field.focus();
  })));
  /** @param {Event} event */
  const onsubmit = async (event) => {
    event.preventDefault();
    const typed = field.value.split(/[\s,]+/).filter(Boolean);
    const add = typed.filter((tag) => !tags.includes(tag));
    const remove = tags.filter((tag) => !kept.has(tag) && !typed.includes(tag));
    try {
      if (add.length + remove.length > 0) await apply(add, remove);
      dialog.close();
    } catch (error) {
      showError(mistake, error);
      field.focus();
    }
  };
  const form = el("form", { class: "login", onsubmit }, el("h2", { id: "tags-head" }, title), present,
    el("label", { for: "new-tags" }, "New tags, with spaces between"), field, known, mistake,
    el("div", { class: "acts start" }, el("button", { class: "btn main", type: "submit" }, "Save"),
      el("button", { class: "btn", type: "button", onclick: () => dialog.close() }, "Cancel")));
  const dialog = el("dialog", { class: "sheet small", "aria-labelledby": "tags-head" }, form);
  dialog.addEventListener("close", () => {
    dialog.remove();
    back?.focus();
  });
  draw();
  document.body.appendChild(dialog);
  dialog.showModal();
  field.focus();
  await propose(known, field, tags);
}

/** @param {string} tag @param {string} name @param {string} sign @param {() => void} onclick */
function tagButton(tag, name, sign, onclick) {
  return el("button", { class: "tag", type: "button", "aria-label": name, onclick }, tag, icon(sign));
}

/** Shows tags that are in use. @param {HTMLElement} place @param {HTMLInputElement} field @param {string[]} tags */
async function propose(place, field, tags) {
  try {
    const answer = /** @type {{tags: {tag: string, exchanges: number, conversations: number}[]}} */ (await api.get("/tags"));
    const others = answer.tags.filter(({ tag }) => !tags.includes(tag)).slice(0, PROPOSED);
    fill(place, ...others.map(({ tag, exchanges, conversations }) => {
      const button = el("button", { class: "tag", type: "button", title: `${counted(conversations, "conversation")}, ${counted(exchanges, "exchange")}`,
        onclick: () => {
          field.value = `${field.value.trim()} ${tag}`.trim();
          button.remove();
          field.focus();
        } }, tag);
      return button;
    }));
  } catch {
    // Without proposals tags can be typed.
  }
}

/** Changes labels of conversations, one after the other. @param {number[]} ids @param {object} change */
export async function labelConversations(ids, change) {
  for (const id of ids) await api.patch(`/conversations/${id}`, change);
}
