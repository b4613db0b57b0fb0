/**
 * The frame of the page: rail, top bar, banners, and the screen of the address.
 * @module
 */
import { api, isAbort } from "./api.js";
import { showBanners } from "./banners.js";
import { learn } from "./completion.js";
import { copyButton } from "./copy.js";
import { byId, el, fill, messageOf, setText } from "./dom.js";
import { Filter } from "./filter.js";
import { durationParts, size } from "./format.js";
import { showTheme, themeSwitch, toggleHelp } from "./help.js";
import { icon, placeIcons } from "./icons.js";
import { register, startKeys } from "./keys.js";
import { current, go, href, setParams } from "./router.js";
import { SCREENS } from "./screens.js";
import { offerSend } from "./send.js";
import { askAgain, openSession } from "./session.js";
import { stream } from "./stream.js";

/** @typedef {import("./types.js").Info} Info */
/** @typedef {import("./screens.js").ScreenEntry} ScreenEntry */

/** @type {Info | null} */
let info = null;
/** Difference of the server's clock to ours, in µs. */
let skew = 0;
/** @type {{entry: ScreenEntry, arg: string, screen: import("./screens.js").Screen} | null} */
let shown = null;
/** Counts the changes of the address: an answer that comes late is not shown. */
let visit = 0;

const main = byId("main");
const filter = new Filter(
  byId("filter"),
  { id: "q", label: "Filter", placeholder: 'Filter exchanges, for example  rep:"ERROR" since:10m', key: "/" },
  (text) => setParams({ q: text }),
);

/** @type {import("./screens.js").Frame} */
const frame = { main, filter, info: () => info, refreshInfo, say: (text) => setText(byId("say"), text) };

async function refreshInfo() {
  const answer = /** @type {Info} */ (await api.get("/info"));
  info = answer;
  skew = answer.now_us - Date.now() * 1000;
  learn("ep", answer.endpoints.map(({ ep }) => ep));
  learn("svc", answer.endpoints.map(({ svc }) => svc));
  document.body.classList.toggle("readonly", answer.readonly);
  offerSend(frame, answer);
  showFoot();
  return answer;
}

/** What the foot of the rail shows. */
let footed = "";

function showFoot() {
  if (!info) return;
  const up = durationParts((Date.now() * 1000 + skew - info.started_us) * 1000).join(" ");
  const bytes = info.store.bytes === null ? "" : `, ${size(info.store.bytes)}`;
  const words = `${up} ${info.store.name}${bytes}`;
  if (words === footed) return;
  footed = words;
  fill(byId("foot"), `up ${up}`, el("br"), `${info.store.name}${bytes}`);
}

function buildRail() {
  const rail = byId("links");
  for (const screen of SCREENS.filter(({ key }) => key)) {
    const link = el("a", { class: "to", href: href(screen.name), "data-screen": screen.name }, icon(screen.icon), screen.title, el("kbd", {}, `g ${screen.key}`));
    rail.append(link);
    register({ keys: `g ${screen.key}`, does: screen.title, group: "Screens", run: () => go(link.getAttribute("href") ?? "#/live") });
  }
}

/** Marks the link of the screen, and carries the filter along. @param {ScreenEntry} entry @param {string} q */
function markRail(entry, q) {
  for (const link of document.querySelectorAll("[data-screen]")) {
    const name = /** @type {HTMLElement} */ (link).dataset.screen ?? "";
    const target = SCREENS.find((screen) => screen.name === name);
    link.setAttribute("href", href(name, target?.filters ? { q } : {}));
    if (name === (entry.parent ?? entry.name)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function showRoute() {
  // The address with a token, pasted into an open page.
  if (location.hash.startsWith("#t=")) {
    location.reload();
    return;
  }
  const route = current();
  const entry = SCREENS.find((screen) => screen.name === route.name);
  if (!entry) {
    go(href("live"));
    return;
  }
  const q = route.params.get("q") ?? "";
  filter.ok();
  filter.set(q);
  byId("filter").hidden = !entry.filters;
  markRail(entry, q);
  if (shown?.entry === entry && shown.arg === route.arg) {
    shown.screen.update(route);
    return;
  }
  const now = ++visit;
  shown?.screen.unmount();
  shown = null;
  document.title = `${entry.title} · echoic`;
  try {
    const module = await entry.load();
    if (now !== visit) return;
    fill(main);
    main.scrollTop = 0;
    shown = { entry, arg: route.arg, screen: module.mount(frame, current()) };
  } catch (error) {
    if (!isAbort(error)) showFailure(error);
  }
}

/** @param {unknown} error */
function showFailure(error) {
  const why = messageOf(error);
  const again = el("button", { class: "btn", type: "button", onclick: () => location.reload() }, "Load the page again");
  fill(main, el("p", { class: "banner bad" }, icon("alert"), el("b", {}, "This screen could not be shown."), why, again));
}

/** Pause and Resume, in the bar and by key. */
function buildPause() {
  const button = byId("pause");
  const show = () => {
    button.setAttribute("aria-pressed", String(stream.paused));
    fill(button, icon(stream.paused ? "play" : "pause"), el("span", { class: "lbl" }, stream.paused ? "Resume" : "Pause"), el("kbd", {}, "space"));
    showState();
  };
  const toggle = () => stream.setPaused(!stream.paused);
  button.addEventListener("click", toggle);
  stream.subscribe("pause", show);
  stream.subscribe("resume", show);
  register({ keys: "space", does: "Pause or resume what moves on the page", group: "Everywhere", run: toggle });
  show();
}

function showState() {
  const { state } = stream.state;
  const look = state === "live" && stream.paused ? "paused" : state;
  /** @type {Record<string, string>} */
  const words = { live: "live", paused: "paused", connecting: "connecting", off: "not connected", locked: "locked" };
  const node = byId("state");
  node.className = `state ${look === "live" ? "" : look === "paused" ? "paused" : "off"}`;
  setText(node.lastChild ?? node, words[look] ?? look);
}

function followStream() {
  let version = "";
  let instance = "";
  stream.subscribe("state", () => {
    showState();
    if (stream.state.state === "locked") askAgain().catch(() => {});
  });
  stream.subscribe("hello", (/** @type {import("./types.js").Hello} */ hello) => {
    if (version && version !== hello.version) location.reload();
    // A record in memory has begun anew: its ids name other things.
    if (instance && instance !== hello.instance) refreshInfo().then(({ store }) => store.kind === "memory" && location.reload(), () => {});
    version = hello.version;
    instance = hello.instance;
  });
  setInterval(showFoot, 1000);
}

function registerKeys() {
  register(
    { keys: "/", does: "Filter", group: "Everywhere", run: () => filter.focus() },
    { keys: "?", does: "These keys", group: "Everywhere", run: toggleHelp },
  );
}

function placeSkip() {
  const skip = byId("skip");
  skip.addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
}

async function start() {
  placeIcons(document);
  byId("themes").replaceWith(themeSwitch());
  showTheme();
  byId("help").addEventListener("click", toggleHelp);
  byId("more").addEventListener("click", toggleHelp);
  const command = copyButton("Copy as command", "Copy as command", () => shown?.screen.command() ?? "", { quiet: false, icon: "cmd", opt: true });
  byId("command").replaceWith(command);
  startKeys();
  registerKeys();
  buildRail();
  buildPause();
  placeSkip();
  await openSession();
  followStream();
  showBanners(frame);
  addEventListener("hashchange", showRoute);
  stream.start();
  await Promise.allSettled([refreshInfo(), showRoute()]);
}

void start();
