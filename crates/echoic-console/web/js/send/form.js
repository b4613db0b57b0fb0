/**
 * The fields of the Send drawer.
 * @module
 */
import { el, fill, setText } from "../dom.js";
import { bare, count, counted, isDatagram } from "../format.js";
import { icon } from "../icons.js";
import { command } from "./command.js";
import { callMessages, counts, parseHex, TextError, typedMessages, unescapeText } from "./text.js";

/** @typedef {import("../types.js").Info} Info */
/** A place to send to. @typedef {{key: string, url: string, svc: string, frame: string, state: string, to: {endpoint: number} | {target: number}}} Place */

/** Framings to choose from; `other` opens a field. */
const FRAMES = ["chunk", "line", "crlf", "nul", "u8", "u16be", "u16le", "u32be", "u32le", "varint", "netstring", "content-length"];
const OTHER = "other";
/** What a framing adds to a message. @type {Record<string, string>} */
const ADDS = { line: "⏎ is added by the framing", crlf: "\\r⏎ is added by the framing", nul: "\\x00 is added by the framing", chunk: "sent as it is" };

/** @param {string} label @param {HTMLSelectElement} select @param {string} width */
function pick(label, select, width) {
  select.className = width;
  return el("label", {}, label, el("span", { class: `pick ${width}` }, select, icon("down")));
}

/** Places of a console. @param {Info} info @returns {Place[]} */
export function places(info) {
  const own = info.endpoints.flatMap(({ id, addrs, svc, frame, state }) =>
    addrs.slice(0, 1).map((url) => ({ key: `e${id}`, url, svc, frame, state, to: { endpoint: id } })),
  );
  const targets = info.targets.map(({ id, url }) => ({ key: `t${id}`, url, svc: "", frame: "chunk", state: "open", to: { target: id } }));
  return [...own, ...targets];
}

export class Form {
  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    /** @type {Place[]} */
    this.places = [];
    this.hex = false;
    this.place = el("select", { "aria-label": "To", onchange: () => this.#choose() });
    this.frame = el("select", { "aria-label": "Framing", onchange: () => this.#choose() });
    this.frameText = el("input", { class: "field w2", "aria-label": "Framing, as for --frame", placeholder: "delim:0d0a", spellcheck: "false", oninput: () => this.show() });
    this.times = el("input", { class: "field w1", value: "1", inputmode: "numeric", oninput: () => this.show() });
    this.every = el("input", { class: "field w2", value: "0 ms", oninput: () => this.show() });
    this.wait = el("input", { class: "field w2", value: "1 s", oninput: () => this.show() });
    this.expect = el("input", { class: "field w3", placeholder: "anything", spellcheck: "false", autocomplete: "off", oninput: () => this.show() });
    this.text = el("textarea", { "aria-label": "Request", "aria-describedby": "send-hint", spellcheck: "false", oninput: () => this.show() });
    this.textButton = el("button", { type: "button", onclick: () => this.setHex(false) }, "Text");
    this.hexButton = el("button", { type: "button", onclick: () => this.setHex(true) }, "Hex");
    this.lengths = el("span", {});
    this.hint = el("p", { class: "dim", id: "send-hint" });
    this.frameLabel = pick("Framing", this.frame, "w2");
    this.otherLabel = el("label", {}, "Framing word", this.frameText);
    this.everyLabel = el("label", {}, "Every", this.every);
    this.node = el("div", { class: "form" }, pick("To", this.place, "w4"), this.frameLabel, this.otherLabel,
      el("div", { class: "lab" }, "Write as", el("span", { class: "seg", role: "group", "aria-label": "Write as" }, this.textButton, this.hexButton)),
      el("label", {}, "Times", this.times), this.everyLabel, el("label", {}, "Wait", this.wait), el("label", {}, "Expect in a reply", this.expect));
    this.pane = el("div", { class: "pane" }, el("header", { role: "none" }, icon("right", "req"), el("b", { class: "req" }, "request"), this.lengths), this.text, this.hint);
    fill(this.frame, el("option", { value: "" }, "chunk"), ...FRAMES.map((frame) => el("option", { value: frame }, frame)), el("option", { value: OTHER }, "other…"));
    this.setHex(false);
  }

  /** Shows the places of the console; the chosen one stays. @param {Info} info */
  setPlaces(info) {
    this.places = places(info);
    const chosen = this.place.value;
    fill(this.place, ...this.places.map(({ key, url, svc, state }) => {
      const words = [url, svc, state === "open" ? "" : `(${state})`].filter(Boolean).join("  ");
      return el("option", { value: key }, words);
    }));
    const first = this.places.find(({ url, svc }) => url.startsWith("tcp") && svc === "upper") ?? this.places[0];
    this.place.value = this.places.some(({ key }) => key === chosen) ? chosen : (first?.key ?? "");
    this.#choose();
  }

  /** @param {string} key of a place */
  choosePlace(key) {
    if (!this.places.some((place) => place.key === key)) return;
    this.place.value = key;
    this.#choose();
  }

  chosen() {
    return this.places.find(({ key }) => key === this.place.value);
  }

  #choose() {
    const place = this.chosen();
    const datagrams = place !== undefined && isDatagram(place.url.split(":")[0] ?? "");
    this.frameLabel.hidden = datagrams;
    this.otherLabel.hidden = datagrams || this.frame.value !== OTHER;
    // The first choice is that of the endpoint itself; it is not listed twice.
    const own = place?.frame ?? "chunk";
    for (const option of this.frame.options) {
      if (option.value === "") setText(option, own);
      else option.hidden = option.value === own;
    }
    this.show();
  }

  /** @param {boolean} hex */
  setHex(hex) {
    this.hex = hex;
    this.textButton.setAttribute("aria-pressed", String(!hex));
    this.hexButton.setAttribute("aria-pressed", String(hex));
    fill(this.hint, ...(hex
      ? ["Pairs of digits, ", el("code", {}, "68 65 6c 6c 6f"), ". The framing adds what it needs."]
      : [el("code", {}, "{n}"), " counts up from 1. ", el("code", {}, "\\x00"), " writes a byte."]));
    this.show();
  }

  /** The framing chosen: "" for that of the endpoint. */
  #frame() {
    if (this.frameLabel.hidden) return "";
    return this.frame.value === OTHER ? this.frameText.value.trim() : this.frame.value;
  }

  /** What is typed, in the form of {@link command}. */
  wish() {
    const place = this.chosen();
    const frame = this.#frame();
    const used = frame || place?.frame || "chunk";
    const datagrams = this.frameLabel.hidden;
    return {
      url: place?.url ?? "",
      frame,
      ownFrame: place?.frame ?? "chunk",
      hex: this.hex,
      typed: typedMessages(this.text.value, this.hex, datagrams ? "" : used),
      times: this.#times(),
      every: this.every.value.trim(),
      wait: this.wait.value.replaceAll(" ", "") || "1s",
      expect: this.expect.value,
    };
  }

  #times() {
    const text = this.times.value.replaceAll(",", "").trim();
    return /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0;
  }

  /** The body of the call. Throws a {@link TextError} that tells the mistake. */
  body() {
    const place = this.chosen();
    if (!place) throw new TextError("there is no endpoint to send to");
    const { typed, times, frame, every, wait, expect } = this.wish();
    if (times === 0) throw new TextError("Times: expected a number from 1 to 10,000");
    const expected = expect === "" ? {} : { expect: this.hex ? { hex: expect } : expectJson(expect) };
    return {
      ...place.to,
      ...callMessages(typed, this.hex, times),
      ...(frame ? { frame } : {}),
      ...(times > 1 || typed.length > 1 ? { every: every.replaceAll(" ", "") || "0ms" } : {}),
      wait,
      ...expected,
    };
  }

  command() {
    return command(this.wish());
  }

  /** Where the form sends to, in words. */
  get toWords() {
    return bare(this.chosen()?.url ?? "");
  }

  /** Shows lengths and what the framing adds. */
  show() {
    const { typed, frame, ownFrame, times } = this.wish();
    this.everyLabel.hidden = times <= 1 && typed.length <= 1;
    setText(this.lengths, this.#lengths(typed, frame || ownFrame));
    this.changed();
  }

  /** @param {string[]} typed @param {string} frame */
  #lengths(typed, frame) {
    const read = this.hex ? parseHex : unescapeText;
    try {
      const sizes = typed.map((text) => read(this.hex ? text : text.replaceAll("{n}", "1")).length);
      const all = sizes.reduce((sum, n) => sum + n, 0);
      const about = !this.hex && typed.some(counts) ? "about " : "";
      const many = typed.length > 1 ? `${counted(typed.length, "message")}, ` : "";
      const adds = this.frameLabel.hidden ? "one datagram each" : (ADDS[frame.split("/")[0] ?? ""] ?? `framed as ${frame}`);
      return `${many}${about}${count(all)} B, ${adds}`;
    } catch (error) {
      return error instanceof TextError ? error.message : String(error);
    }
  }
}

/** @param {string} text */
function expectJson(text) {
  const { messages } = callMessages([text.replaceAll("{n}", "\\x7bn}")], false, 1);
  return messages[0];
}
