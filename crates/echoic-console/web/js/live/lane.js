/**
 * A lane between two cards: a dot for each message up to 30 a second, then trains of dots, above 500 a second a thicker line.
 * The work is bounded by the number of lanes, not of messages.
 * @module
 */
import { el, reducedMotion, setText } from "../dom.js";
import { count, rate } from "../format.js";
import { href } from "../router.js";

/** Up to this many messages a second each has a dot. */
const DOTS = 30;
/** Up to this many a second, trains run; beyond, only the line tells. */
const TRAINS = 500;
/** Most dots on one way at a time. */
const MOST = 12;
/** A message takes so long, in ms. */
export const TRAVEL = 450;

/** One way of a lane. */
export class Way {
  /** @param {string} kind `go`, `back` or `keep` */
  constructor(kind) {
    this.label = document.createTextNode("");
    this.node = el("span", { class: kind }, this.label);
    this.dots = 0;
    this.perSecond = 0;
    this.trainAt = 0;
    this.train = 0;
  }

  /** Shows the rate of the last second. @param {number} perSecond */
  setRate(perSecond) {
    this.perSecond = perSecond;
    setText(this.label, perSecond > 0 ? rate(perSecond) : "");
    const width = perSecond > TRAINS ? Math.min(4, 1 + Math.floor(Math.log10(perSecond / TRAINS) * 2)) : 0;
    for (let n = 1; n <= 4; n++) this.node.classList.toggle(`thick${n}`, n === width);
  }

  /** Sends messages along. @param {number} conv their conversation @param {number} n @param {number} delay in ms @param {number} pace messages a second now */
  travel(conv, n, delay, pace) {
    this.node.classList.remove("off");
    if (n === 0 || document.hidden || reducedMotion()) return;
    const perSecond = Math.max(this.perSecond, pace);
    if (perSecond > TRAINS) return;
    if (perSecond <= DOTS) {
      this.#dot(conv, delay, "");
      return;
    }
    this.train += n;
    const now = performance.now();
    if (now - this.trainAt < TRAVEL) return;
    this.trainAt = now;
    this.#dot(conv, delay, this.train > 1 ? `×${count(this.train)}` : "");
    this.train = 0;
  }

  /** A dot that leads to its conversation. The keyboard has the link of the lane. @param {number} conv @param {number} delay @param {string} words */
  #dot(conv, delay, words) {
    if (this.dots >= MOST) return;
    this.dots++;
    const dot = el("a", { class: words ? "dot run train" : "dot run", href: href(`conversations/${conv}`), title: `c${conv}`, tabindex: -1 }, words);
    dot.style.setProperty("--delay", `${Math.round(delay)}ms`);
    const gone = () => {
      if (!dot.isConnected) return;
      dot.remove();
      this.dots--;
    };
    dot.addEventListener("animationend", gone);
    setTimeout(gone, delay + 3 * TRAVEL);
    this.node.append(dot);
  }
}
