/**
 * The overlay of keys and settings.
 * @module
 */
import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { registered, setSingleKeys, singleKeysOn } from "./keys.js";
import { applyTheme, setSetting, setting } from "./settings.js";

/** @type {[string, string, string][]} */
const THEMES = [
  ["system", "System", "auto"],
  ["light", "Light", "sun"],
  ["dark", "Dark", "moon"],
];

/** Creates the switch of themes. All of them on the page agree. */
export function themeSwitch() {
  const group = el("span", { class: "seg themes", role: "group", "aria-label": "Theme" });
  for (const [theme, name, sign] of THEMES) {
    const choose = () => {
      setSetting("theme", theme);
      applyTheme(theme);
      showTheme();
    };
    group.append(el("button", { type: "button", title: name, "aria-label": name, "data-theme-choice": theme, onclick: choose }, icon(sign)));
  }
  return group;
}

/** Marks the theme chosen in every switch. */
export function showTheme() {
  const chosen = setting("theme", "system");
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.themeChoice === chosen));
  }
}

/** @param {string} keys */
function keyNodes(keys) {
  return keys.split(" ").flatMap((key, at) => [at > 0 ? " " : null, el("kbd", {}, key)]);
}

/** The groups of shortcuts that work now. */
function groups() {
  /** @type {Map<string, HTMLElement[]>} */
  const lists = new Map();
  for (const { keys, does, group } of registered()) {
    const list = lists.get(group) ?? [];
    lists.set(group, list);
    list.push(el("div", {}, el("dt", {}, ...keyNodes(keys)), el("dd", {}, does)));
  }
  return [...lists].map(([group, list]) => el("section", {}, el("h3", {}, group), el("dl", {}, ...list)));
}

/** @type {HTMLDialogElement | null} */
let dialog = null;

/** Opens the overlay, or closes it. */
export function toggleHelp() {
  if (dialog?.open) {
    dialog.close();
    return;
  }
  if (!dialog) {
    dialog = el("dialog", { class: "sheet help", "aria-labelledby": "help-head" });
    document.body.appendChild(dialog);
    dialog.addEventListener("click", (event) => event.target === dialog && dialog?.close());
    dialog.addEventListener("keydown", (event) => {
      if (event.key !== "?") return;
      // The shortcut would open it again.
      event.preventDefault();
      dialog?.close();
    });
  }
  const single = el("input", { type: "checkbox", id: "single-keys", onchange: () => setSingleKeys(single.checked) });
  single.checked = singleKeysOn();
  const close = el("button", { class: "btn quiet", type: "button", "aria-label": "Close", onclick: () => dialog?.close() }, icon("x"));
  fill(
    dialog,
    el("header", {}, el("h2", { id: "help-head" }, "Keys and settings"), close),
    el("div", { class: "keygroups" }, ...groups()),
    el(
      "footer",
      {},
      el("label", {}, single, "Single-key shortcuts"),
      el("span", { class: "dim" }, "Single keys do nothing while you type."),
      el("span", { class: "push" }),
      themeSwitch(),
    ),
  );
  showTheme();
  dialog.showModal();
}
