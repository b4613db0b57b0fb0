/**
 * The screens, in the order of the rail. A screen that is not listed has no link and no shortcut.
 * @module
 */

/**
 * What the frame knows of a screen that is shown.
 * @typedef {object} Screen
 * @property {(route: import("./router.js").Route) => void} update the parameters of the address changed
 * @property {() => void} unmount
 * @property {() => string} command the command that shows the same in a terminal
 */
/**
 * What a screen gets from the frame.
 * @typedef {object} Frame
 * @property {HTMLElement} main where it draws; it scrolls
 * @property {import("./filter.js").Filter} filter the filter box: `ok` and `wrong`
 * @property {() => import("./types.js").Info | null} info the newest answer of `/info`
 * @property {() => Promise<import("./types.js").Info>} refreshInfo asks for it again
 * @property {(text: string) => void} say tells a line to screen readers
 */
/**
 * @typedef {object} ScreenEntry
 * @property {string} name in the address
 * @property {string} title @property {string} icon @property {string} key second key after `g`; "" for a screen without a link
 * @property {boolean} filters whether the filter box applies to it
 * @property {string} [parent] name of the screen that its link marks
 * @property {() => Promise<{mount(frame: Frame, route: import("./router.js").Route): Screen}>} load
 */

/** @type {ScreenEntry[]} */
export const SCREENS = [
  { name: "live", title: "Live", icon: "live", key: "l", filters: true, load: () => import("./screens/live.js") },
  { name: "conversations", title: "Conversations", icon: "conv", key: "c", filters: true, load: () => import("./screens/conversations.js") },
  { name: "numbers", title: "Numbers", icon: "nums", key: "n", filters: true, load: () => import("./screens/numbers.js") },
  { name: "about", title: "About", icon: "about", key: "a", filters: false, load: () => import("./screens/about.js") },
];

/** Whether there is a screen of this name. @param {string} name */
export function hasScreen(name) {
  return SCREENS.some((screen) => screen.name === name);
}
