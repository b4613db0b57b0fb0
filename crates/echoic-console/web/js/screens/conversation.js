/**
 * Conversation: requests beside their replies, to the byte; how it was cut, and why it ended.
 * @module
 */
import { api, ApiError, isAbort, isMistake, url } from "../api.js";
import { Composer } from "../conversation/composer.js";
import { copyMenu } from "../conversation/copying.js";
import { beginLines, endLines } from "../conversation/ends.js";
import { Inspector } from "../conversation/inspector.js";
import { choose, conversationParts, MODES, pick, TIMES } from "../conversation/parts.js";
import { Note } from "../conversation/note.js";
import { Talk } from "../conversation/talk.js";
import { showTls } from "../conversation/tls.js";
import { append, el, fill, pause, setText } from "../dom.js";
import { Filter } from "../filter.js";
import { bare, clock, count, counted, isDatagram, shellQuote, storeOption, wordLook } from "../format.js";
import { icon, showError } from "../icons.js";
import { register } from "../keys.js";
import { editTags, labelConversations } from "../labels.js";
import { Menu } from "../menu.js";
import { go, href, setParams } from "../router.js";
import { setSetting, setting } from "../settings.js";
import { stream } from "../stream.js";

/** @typedef {import("../types.js").Conversation} Conversation */
/** @typedef {import("../screens.js").Frame} Frame */
/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../conversation/box.js").Look} Look */
/** @typedef {import("../conversation/pair.js").Times} Times */

/** Bytes of each message that are loaded at first. */
const PREVIEW = 4096;
/** Width of the list from which hex has 16 bytes a line, in px. */
const WIDE = 1300;
/** The conversation is asked for again at most so often, in ms. */
const ASK_EVERY = 250;
/** Pause before a call that failed is made again, in ms. */
const ASK_AGAIN = 1000;

class ConversationScreen {
  /** @param {Frame} frame @param {Route} route */
  constructor(frame, route) {
    this.frame = frame;
    this.id = Number(route.arg);
    /** The filter of the list that led here. */
    this.listQ = route.params.get("q") ?? "";
    this.listOrder = route.params.get("order");
    this.find = route.params.get("find") ?? "";
    /** @type {Conversation | null} */
    this.conversation = null;
    /** @type {Talk | null} */
    this.talk = null;
    /** @type {Composer | null} */
    this.composer = null;
    this.turns = { of: -1, n: 0 };
    this.unseen = 0;
    this.asked = 0;
    this.asking = false;
    this.gone = false;
    this.spaces = setting("spaces", "off") === "on";
    this.mode = pick(MODES, route.params.get("bytes") ?? setting("bytes", "text"));
    this.times = pick(TIMES, route.params.get("times") ?? setting("times", "start"));
    this.inspector = new Inspector();
    this.note = new Note(this.id, () => this.#mayLabel());
    this.parts = conversationParts(this.id, {
      setMode: (mode) => this.#setMode(mode),
      setTimes: (times) => this.#setTimes(times),
      toggleSpaces: () => this.#toggleSpaces(),
      toggleSide: () => this.#toggleSide(),
      editTags: () => void this.#editTags(),
      toNewest: () => this.#toNewest(),
    });
    this.copy = copyMenu(() => this.#current(), () => this.conversation);
    this.export = new Menu({ label: "Export", icon: "dl", key: "e" }, () => this.#exports());
    const words = "Filter in this conversation";
    this.filter = new Filter(this.parts.find, { id: "find", label: words, placeholder: words }, (text) => setParams({ find: text }));
    this.#build();
    this.ways = this.#subscribe();
    /** Message of the address; the current one is another if there is none of this number. */
    this.askedAt = Number(route.params.get("at")) || 0;
    this.ready = this.#load(this.askedAt);
  }

  #build() {
    const { id, parts } = this;
    document.title = `Conversation c${id} · echoic`;
    const back = el("a", { class: "btn quiet", href: this.#listAddress(), title: "Back to the list" }, icon("back"), el("span", { class: "sr" }, "Back to the list"));
    const acts = el("div", { class: "acts" }, this.copy.node, this.export.node, parts.tag);
    this.filter.set(this.find);
    append(parts.box, el("div", { class: "talk-side" }, parts.list, parts.pill),
      el("aside", { class: "side", "aria-label": "Inspector", tabindex: 0 }, this.inspector.node, parts.tls, parts.calls, this.note.node));
    fill(this.frame.main, el("h1", { class: "sr" }, `Conversation c${id}`), el("div", { class: "bar" }, back, parts.title, acts),
      el("div", { class: "bar views" }, parts.modes, parts.times, parts.spaces, el("span", { class: "push" }), parts.find, parts.number, parts.details),
      parts.problem, parts.box, parts.foot);
    this.frame.main.classList.add("held");
    parts.list.addEventListener("keydown", (event) => this.#onKey(event));
    parts.list.addEventListener("click", (event) => this.#onClick(event));
    parts.list.addEventListener("scroll", () => this.unseen > 0 && this.talk?.atEnd() && this.#showPill(), { passive: true });
    this.#showChoices();
  }

  #subscribe() {
    const keys = "Conversation";
    return [
      stream.subscribe("batch", (/** @type {import("../types.js").Batch} */ batch) => {
        const own = batch.exchanges.filter(({ conv }) => conv === this.id);
        if (own.length > 0 || (batch.more > 0 && this.conversation?.state !== "ended")) void this.#ask();
      }),
      stream.subscribe("conversations", (/** @type {import("../types.js").Conversations} */ { half, ended, more }) => {
        if (more > 0 || [...half, ...ended].some(({ conv }) => conv === this.id)) void this.#ask();
      }),
      stream.subscribe("labels", (/** @type {{exchanges: number[], conversation: number | null}} */ { conversation }) => {
        if (conversation === this.id) void this.#ask();
      }),
      stream.subscribe("explain", (/** @type {{conv: number, calls: import("../types.js").SocketCall[]}} */ { conv, calls }) => {
        if (conv === this.id) this.#showCalls(calls);
      }),
      stream.subscribe("gap", () => void this.#ask()),
      stream.subscribe("resume", () => void this.#ask()),
      // Of what was missed, the stream tells the exchanges only.
      stream.subscribe("hello", () => {
        void this.#ask();
        if (this.conversation) void this.#loadCalls();
      }),
      register(
        { keys: "]", does: "Next message", group: keys, run: () => void this.#step(1) },
        { keys: "[", does: "Message before", group: keys, run: () => void this.#step(-1) },
        { keys: "j", does: "Next message", group: keys, run: () => void this.#step(1) },
        { keys: "k", does: "Message before", group: keys, run: () => void this.#step(-1) },
        { keys: "G", does: "Newest message", group: keys, run: () => this.#toNewest() },
        { keys: "Enter", does: "Into the bytes of the message", group: keys, run: () => this.#enter() },
        { keys: "h", does: "Text or hex", group: keys, run: () => this.#setMode(this.mode === "hex" ? "text" : "hex") },
        { keys: "w", does: "Show spaces", group: keys, run: () => this.#toggleSpaces() },
        { keys: "c", does: "Copy as …", group: keys, run: () => this.copy.open() },
        { keys: "e", does: "Export", group: keys, run: () => this.export.open() },
        { keys: "t", does: "Tag", group: keys, run: () => void this.#editTags() },
        { keys: "f", does: "Filter in this conversation", group: keys, run: () => this.filter.focus() },
        { keys: "u", does: "Back to the list", group: keys, run: () => go(this.#listAddress()) },
        { keys: "Escape", does: "Back to the list", group: keys, run: () => this.#escape() },
      ),
    ];
  }

  // ---- what is loaded

  /** @param {number} at */
  async #load(at) {
    try {
      if (!this.frame.info()) await this.frame.refreshInfo();
      this.#show(await api.get(`/conversations/${this.id}`));
      await this.#loadTalk(at);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) this.#tellMissing();
      else this.#fail(error, () => (this.ready = this.#load(at)));
      return;
    }
    void this.#loadCalls();
    void this.#countTurns();
  }

  /** @param {number} at */
  async #loadTalk(at) {
    this.talk?.destroy();
    this.inspector.reset();
    const q = this.find;
    const talk = new Talk({
      scroller: this.parts.list,
      filtered: q !== "",
      role: this.conversation?.role ?? "server",
      load: (from, limit) => api.get(`/conversations/${this.id}/messages`, { from, limit, q, preview: PREVIEW }),
      shown: () => this.#shown(),
      changed: () => this.#showEnds(),
      failed: (error, again) => this.#fail(error, again),
    });
    this.talk = talk;
    fill(this.parts.list, this.parts.begin, talk.above, talk.body, talk.below, this.parts.end);
    this.parts.list.scrollTop = 0;
    setText(this.parts.number, q === "" ? "" : "Searching");
    try {
      await talk.start(at);
      this.filter.ok();
    } catch (error) {
      if (this.talk !== talk || isAbort(error)) return;
      if (q !== "" && isMistake(error)) this.filter.wrong(error);
      else this.#fail(error, () => this.talk === talk && this.#loadTalk(at));
    }
  }

  async #loadCalls() {
    if (!this.frame.info()?.features.control) return;
    try {
      this.#showCalls((await api.get(`/conversations/${this.id}/calls`)).calls);
    } catch {
      // It was removed meanwhile, or the server is gone: the rest of the screen tells it.
    }
  }

  /** Counts the turns: each request and each reply is one, unless it is empty. */
  async #countTurns() {
    const exchanges = this.conversation?.exchanges ?? 0;
    if (this.turns.of === exchanges) return;
    this.turns.of = exchanges;
    /** @param {string} q @returns {Promise<number>} */
    const number = async (q) => (await api.get("/exchanges/count", { q })).count;
    try {
      const own = `conv:${this.id}`;
      const [all, silent, unanswered] = await Promise.all([number(own), number(`${own} -req~"(?s-u:.)"`), number(`${own} -rep~"(?s-u:.)"`)]);
      this.turns.n = 2 * all - silent - unanswered;
      this.#showEnds();
    } catch {
      this.turns.of = -1;
    }
  }

  /** Asks for what is new; calls while one is under way become one more. */
  async #ask() {
    this.asked++;
    if (this.asking || stream.paused) return;
    this.asking = true;
    while (this.asked > 0 && !this.gone) {
      this.asked = 0;
      try {
        await this.ready;
        if (!this.conversation) break;
        const known = this.talk?.total ?? 0;
        const conversation = /** @type {Conversation} */ (await api.get(`/conversations/${this.id}`));
        if (this.gone) return;
        const away = this.talk && !this.talk.atEnd();
        this.#show(conversation);
        if (conversation.exchanges > known) {
          if (away && this.find === "") this.unseen += conversation.exchanges - known;
          await this.talk?.grow(conversation.exchanges);
        }
        this.#showEnds();
        this.#showPill();
      } catch (error) {
        // It may have been the last event: without another try the screen would stay as it is. A stream that comes back asks too.
        if (!(error instanceof ApiError && error.status === 404) && stream.state.state === "live") this.asked++;
        await pause(ASK_AGAIN);
      }
      await pause(ASK_EVERY);
    }
    this.asking = false;
    if (!this.gone && this.conversation?.state === "ended") void this.#countTurns();
  }

  // ---- what is shown

  /** @returns {import("../conversation/pair.js").Shown} */
  #shown() {
    const width = this.parts.list.clientWidth >= WIDE ? 16 : 8;
    return { look: { mode: this.mode, spaces: this.spaces, width }, times: this.times, start: this.conversation?.opened_us ?? 0 };
  }

  /** @param {Conversation} conversation */
  #show(conversation) {
    const before = this.conversation;
    this.conversation = conversation;
    const { conv, peer, local, proto, svc, frame, state, reason, role, tags } = conversation;
    const word = state === "ended" ? (reason ?? state) : state;
    const look = wordLook(word);
    const [from, to] = role === "client" ? [local, peer] : [peer, local];
    fill(this.parts.title, el("h2", { class: "mono" }, `c${conv}`), el("span", { class: "mono" }, bare(from)),
      el("span", { class: "to" }, icon("right"), el("span", { class: isDatagram(proto) ? "pill dgram" : "pill" }, proto.toUpperCase()), el("span", { class: "mono" }, bare(to))),
      el("span", { class: "dim opt" }, [role === "client" ? "recorded by the client" : svc, isDatagram(proto) ? "" : `${frame} frames`].filter(Boolean).join(", ")),
      el("span", { class: `out ${look.kind}` }, icon(look.icon), word), ...tags.map((tag) => el("span", { class: "tag" }, tag)));
    this.parts.tag.hidden = !this.#mayLabel();
    this.note.set(conversation.note);
    showTls(this.parts.tls, conversation.tls);
    if (before?.state !== state) this.#showFoot();
  }

  #showEnds() {
    const { conversation, talk } = this;
    if (!conversation || !talk || this.gone) return;
    this.parts.problem.hidden = true;
    const shown = this.#shown();
    fill(this.parts.begin, ...beginLines(conversation, shown));
    const filtered = this.find !== "";
    const last = Number.isFinite(talk.lastT) ? talk.lastT : conversation.opened_us;
    const marks = talk.marks.filter(({ t_us }) => t_us >= talk.lastT || talk.total === 0);
    const turns = this.turns.of === conversation.exchanges ? this.turns.n : null;
    if (filtered) fill(this.parts.end, talk.known === 0 && talk.complete ? el("p", { class: "await" }, "No message of this conversation matches.") : null);
    else fill(this.parts.end, ...marks.map((mark) => talk.markLine(mark, last, shown)), ...endLines(conversation, { before: marks.at(-1)?.t_us ?? last, turns, shown }));
    const all = count(conversation.exchanges);
    const found = `${count(talk.known)}${talk.complete ? "" : " so far"} of ${all}`;
    setText(this.parts.number, filtered ? found : counted(conversation.exchanges, "exchange"));
  }

  #showPill() {
    if (this.talk?.atEnd()) this.unseen = 0;
    this.parts.pill.hidden = this.unseen === 0;
    fill(this.parts.pill, icon("down"), `${count(this.unseen)} new`, el("kbd", {}, "G"));
  }

  #showFoot() {
    const { conversation } = this;
    const info = this.frame.info();
    if (!conversation || !info) return;
    const open = conversation.state !== "ended";
    const may = open && info.features.control && !info.readonly && conversation.role !== "client";
    const why = !open ? "Closed, so nothing more can be sent into it." : info.readonly ? "This console is read-only." : "Open in another process: this console cannot send into it.";
    const keys = [["[ ]", "message"], ["h", "hex"], ["w", "spaces"], ["Enter", "bytes"], ["Esc", "back"]];
    const hints = el("span", { class: "keys" }, ...keys.map(([key, does]) => el("span", {}, el("kbd", {}, key), ` ${does}`)));
    if (may && !this.composer) {
      this.composer = new Composer(conversation);
      fill(this.parts.foot, this.composer.node);
    } else if (!may) {
      this.composer = null;
      fill(this.parts.foot, el("span", { class: "out" }, icon(open ? "open" : "shut"), why), hints);
    }
    this.parts.foot.classList.toggle("composing", may);
  }

  /** @param {import("../types.js").SocketCall[]} calls */
  #showCalls(calls) {
    const rows = calls.map(({ t_us, call, args, result }) => el("li", { title: clock(t_us) }, el("span", {}, `${call}(${args})`), el("span", { class: "r" }, `= ${result}`)));
    fill(this.parts.calls, el("h3", {}, "Socket calls, explained"), el("ol", { class: "trace" }, ...rows));
    this.parts.calls.hidden = calls.length === 0;
  }

  #showChoices() {
    choose(this.parts.modes, this.mode);
    choose(this.parts.times, this.times);
    this.parts.spaces.setAttribute("aria-pressed", String(this.spaces));
  }

  /** Instead of the screen, whose controls would do nothing. */
  #tellMissing() {
    if (this.gone) return;
    for (const leave of this.ways) leave();
    const group = "Conversation";
    const back = () => go(this.#listAddress());
    this.ways = [register({ keys: "u", does: "Back to the list", group, run: back }, { keys: "Escape", does: "Back to the list", group, run: back })];
    const link = el("a", { class: "btn", href: this.#listAddress() }, icon("back"), "Back to the list");
    fill(this.frame.main, el("h1", { class: "sr" }, `Conversation c${this.id}`),
      el("p", { class: "await", role: "status" }, el("span", {}, `c${this.id} is not in the record: it was removed, or there has been none with this number.`), link));
  }

  /** Says what went wrong, and tries again later. @param {unknown} error @param {() => unknown} again */
  #fail(error, again) {
    if (this.gone) return;
    setTimeout(() => !this.gone && again(), ASK_AGAIN);
    showError(this.parts.problem, error);
    if (!this.conversation) fill(this.parts.list);
  }

  // ---- what the reader does

  /** @param {Look["mode"]} mode */
  #setMode(mode) {
    this.mode = mode;
    setSetting("bytes", mode);
    setParams({ bytes: mode === "text" ? null : mode });
    this.#showChoices();
    this.talk?.redraw(true);
    if (this.inspector.box) this.inspector.show(this.inspector.box, this.inspector.from, this.inspector.to);
    this.#showEnds();
  }

  /** @param {Times} times */
  #setTimes(times) {
    this.times = times;
    setSetting("times", times);
    setParams({ times: times === "start" ? null : times });
    this.#showChoices();
    this.talk?.redraw(false);
    this.#showEnds();
  }

  #toggleSpaces() {
    this.spaces = !this.spaces;
    setSetting("spaces", this.spaces ? "on" : "off");
    this.#showChoices();
    this.talk?.redraw(true);
  }

  #toggleSide() {
    const on = this.parts.box.classList.toggle("with-side");
    this.parts.details.setAttribute("aria-pressed", String(on));
  }

  #toNewest() {
    this.unseen = 0;
    this.talk?.toEnd();
    this.#showPill();
  }

  /** @param {number} step */
  async #step(step) {
    // From a button the focus comes along: the next key is for the message.
    if (document.activeElement instanceof HTMLElement && document.activeElement !== document.body) this.parts.list.focus({ preventScroll: true });
    await this.talk?.step(step);
    this.#tellAt();
  }

  #tellAt() {
    if (this.gone || !this.talk?.at) return;
    setParams({ at: this.talk.at });
    const current = this.talk.current();
    if (current) this.frame.say(`Message ${current.exchange.n}, ${current.exchange.outcome}`);
  }

  #current() {
    const { talk } = this;
    return talk?.current() ?? talk?.chunks.flatMap(({ pairs }) => pairs)[0];
  }

  /** Focuses the bytes of the current message. */
  #enter() {
    const focused = document.activeElement;
    if (focused instanceof HTMLElement && focused !== document.body && focused !== this.parts.list && focused !== this.frame.main) return false;
    const pre = this.#current()?.node.querySelector("pre");
    pre?.focus();
    return pre !== null;
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key === "Escape" && event.target !== this.parts.list) {
      this.parts.list.focus();
      event.preventDefault();
      event.stopPropagation();
    } else if (this.inspector.onKey(event)) event.preventDefault();
  }

  /** @param {MouseEvent} event */
  #onClick(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const pair = /** @type {HTMLElement | null} */ (target.closest(".pair"));
    const selection = getSelection();
    if (!pair || target.closest("a, button") || (selection && !selection.isCollapsed)) return;
    void this.talk?.goTo(Number(pair.dataset.n)).then(() => this.#tellAt());
  }

  #escape() {
    if (document.querySelector("dialog[open], .drawer:not([hidden])")) return false;
    go(this.#listAddress());
    return true;
  }

  #mayLabel() {
    const info = this.frame.info();
    return !!info && info.features.labels && !info.readonly;
  }

  async #editTags() {
    if (!this.#mayLabel() || !this.conversation) return;
    await editTags({
      title: `Tags of c${this.id}`,
      tags: this.conversation.tags,
      apply: async (add, remove) => {
        await labelConversations([this.id], { add, remove });
        this.#show(await api.get(`/conversations/${this.id}`));
      },
    });
  }

  #exports() {
    const q = [`conv:${this.id}`, this.find].filter(Boolean).join(" ");
    const raw = `/conversations/${this.id}/bytes`;
    return [
      { name: this.find ? "JSON lines, as filtered" : "JSON lines", href: url("/export", { q, format: "jsonl" }) },
      { name: this.find ? "CSV, as filtered" : "CSV", href: url("/export", { q, format: "csv" }) },
      { name: "All bytes received", href: url(raw, { dir: "in" }) },
      { name: "All bytes sent", href: url(raw, { dir: "out" }) },
    ];
  }

  #listAddress() {
    return href("conversations", { q: this.listQ, order: this.listOrder });
  }

  /** @param {Route} route */
  update(route) {
    document.title = `Conversation c${this.id} · echoic`;
    if (!this.conversation && this.talk === null && !this.parts.box.isConnected) return;
    const q = route.params.get("q") ?? "";
    if (q !== this.listQ) {
      go(href("conversations", { q }));
      return;
    }
    const at = Number(route.params.get("at")) || 0;
    const moved = at !== this.askedAt;
    this.askedAt = at;
    const find = route.params.get("find") ?? "";
    if (find !== this.find) {
      this.find = find;
      this.filter.set(find);
      void this.#loadTalk(at);
    } else if (moved && at > 0 && at !== this.talk?.at) void this.talk?.goTo(at);
  }

  command() {
    const store = storeOption(this.frame.info());
    const find = this.find ? ` ${shellQuote(this.find)}` : "";
    return `echoic log${store} conv:${this.id}${find}`;
  }

  unmount() {
    this.gone = true;
    for (const leave of this.ways) leave();
    this.talk?.destroy();
    this.inspector.destroy();
    this.frame.main.classList.remove("held");
  }
}

/** @param {Frame} frame @param {Route} route @returns {import("../screens.js").Screen} */
export function mount(frame, route) {
  return new ConversationScreen(frame, route);
}
