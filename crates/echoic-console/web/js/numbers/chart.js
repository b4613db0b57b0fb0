/**
 * Charts that the server draws, at the width of their box.
 * @module
 */
import { url } from "../api.js";
import { el, fill, setText } from "../dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 180;
/** What a chart may consist of. Anything else in the answer is left out. */
const TAGS = new Set(["svg", "g", "path", "rect", "circle", "line", "polyline", "polygon", "text", "tspan", "title", "desc", "defs", "clipPath"]);
const ATTRIBUTES = new Set(["class", "viewBox", "width", "height", "role", "aria-label", "aria-labelledby", "aria-describedby", "id", "d", "x", "y", "x1", "x2", "y1", "y2", "cx",
  "cy", "r", "rx", "points", "text-anchor", "transform", "fill", "dx", "dy"]);

/** Copies elements and attributes of charts, and nothing else. @param {Element} from @returns {SVGElement} */
function adopt(from) {
  const node = document.createElementNS(SVG, from.localName);
  for (const { name, value } of from.attributes) if (ATTRIBUTES.has(name)) node.setAttribute(name, value);
  for (const child of from.childNodes) {
    if (child instanceof Element && TAGS.has(child.localName)) node.append(adopt(child));
    else if (child.nodeType === Node.TEXT_NODE) node.append(document.createTextNode(child.nodeValue ?? ""));
  }
  return /** @type {SVGElement} */ (node);
}

/**
 * Loads a document. A request parses it itself: the page may turn no string into markup.
 * @param {string} address @param {AbortSignal} signal @returns {Promise<Element>}
 */
function load(address, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", address);
    request.responseType = "document";
    request.onload = () => {
      const root = request.status === 200 ? request.responseXML?.documentElement : null;
      if (root?.localName === "svg") resolve(root);
      else reject(new Error(`the console answered with status ${request.status}`));
    };
    request.onerror = () => reject(new Error("the console does not answer"));
    const stop = () => {
      request.abort();
      reject(new DOMException("given up", "AbortError"));
    };
    signal.addEventListener("abort", stop);
    // The signal lives as long as the screen: what listens to it would keep each request.
    request.onloadend = () => signal.removeEventListener("abort", stop);
    request.send();
  });
}

export class Chart {
  /** @param {string} name of the API @param {string} title @param {...import("../dom.js").Child} keys what the colours mean */
  constructor(name, title, ...keys) {
    this.name = name;
    this.drawn = el("div", { class: "drawn" });
    this.sentence = el("p", {}, "…");
    this.table = el("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": `${title}, as a table`, hidden: true });
    this.node = el("figure", { class: "chart" }, el("figcaption", {}, el("h2", {}, title), el("span", { class: "push" }, ...keys)), this.drawn, this.sentence, this.table);
  }

  /** Shows the chart or the table. @param {boolean} asTable */
  setView(asTable) {
    this.drawn.hidden = asTable;
    this.sentence.hidden = asTable;
    this.table.hidden = !asTable;
  }

  /** Draws it. @param {import("../api.js").Query} query @param {AbortSignal} signal */
  async draw(query, signal) {
    const width = Math.floor(this.drawn.clientWidth);
    if (width === 0) return;
    const root = await load(url(`/charts/${this.name}.svg`, { ...query, width, height: HEIGHT }), signal);
    setText(this.sentence, root.getElementsByTagName("desc")[0]?.textContent ?? "");
    fill(this.drawn, adopt(root));
  }
}
