/**
 * Choices of the reader, kept by the browser.
 * @module
 */

const KEY = "echoic-";

/** @param {string} name @param {string} fallback */
export function setting(name, fallback) {
  try {
    return localStorage.getItem(KEY + name) ?? fallback;
  } catch {
    return fallback;
  }
}

/** @param {string} name @param {string} value */
export function setSetting(name, value) {
  try {
    localStorage.setItem(KEY + name, value);
  } catch {
    // A browser that keeps nothing: the choice holds until the page is closed.
  }
}

/** Shows a theme: `system`, `light` or `dark`. @param {string} theme */
export function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}
