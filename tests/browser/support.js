/**
 * Starts the real program on free ports and opens its console in Chromium.
 * @module
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, beforeEach } from "node:test";
import readline from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
/** The program under test. */
export const program = process.env.ECHOIC_BIN ?? path.join(root, "target/debug/echoic");
/** Screenshots are written here; the folder is named at the end. */
export const shots = process.env.ECHOIC_SHOTS ?? mkdtempSync(path.join(tmpdir(), "echoic-shots-"));
export const TOKEN = "0123456789abcdef0123456789abcdef";
/** Widths of the three layouts, each with a height. */
export const SIZES = [
  { width: 1440, height: 900 },
  { width: 800, height: 1000 },
  { width: 390, height: 844 },
];
export const THEMES = /** @type {const} */ (["light", "dark"]);
/** Longest wait for something that should happen at once on a loaded machine, in ms. */
export const SOON = 20_000;

/** @typedef {{ev: string, ep?: string, addr?: string, url?: string}} Event */

/** Waits until `check` returns something. @template T @param {() => T | Promise<T>} check @param {string} what @returns {Promise<NonNullable<T>>} */
export async function until(check, what, within = SOON) {
  const deadline = Date.now() + within;
  for (;;) {
    const result = await check();
    if (result) return /** @type {NonNullable<T>} */ (result);
    assert.ok(Date.now() < deadline, `not within ${within} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A running `echoic serve` with its console. */
export class Server {
  /** @param {string[]} endpoints @param {{folder?: string, console?: string, args?: string[], env?: Record<string, string>}} [options] */
  static async start(endpoints, options = {}) {
    const server = new Server();
    server.ownFolder = options.folder === undefined;
    server.folder = options.folder ?? mkdtempSync(path.join(tmpdir(), "echoic-browser-"));
    server.store = path.join(server.folder, "echoic.db");
    const args = ["serve", "--json", "--store", server.store, "--console", options.console ?? "127.0.0.1:0", ...(options.args ?? []), ...endpoints];
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("ECHOIC_")));
    server.process = spawn(program, args, { env: { ...env, ECHOIC_TOKEN: TOKEN, ...options.env }, stdio: ["ignore", "pipe", "pipe"], cwd: server.folder });
    ofTest(server.process);
    server.process.stderr.on("data", (data) => (server.errors += data));
    server.ended = new Promise((resolve) => server.process.on("exit", resolve));
    readline.createInterface({ input: server.process.stdout }).on("line", (line) => server.events.push(JSON.parse(line)));
    const ready = () => {
      assert.equal(server.process.exitCode, null, `echoic ended: ${server.errors}`);
      return server.events.some(({ ev }) => ev === "console") && server.listening().length >= endpoints.length;
    };
    await until(ready, "echoic listens").catch((error) => {
      server.process.kill("SIGKILL");
      throw new Error(`${error.message}\n${server.errors}`);
    });
    return server;
  }

  /** @type {Event[]} */
  events = [];
  errors = "";
  folder = "";
  store = "";
  ownFolder = true;
  /** @type {import("node:child_process").ChildProcessByStdio<null, import("node:stream").Readable, import("node:stream").Readable>} */
  process = /** @type {any} */ (null);
  /** @type {Promise<unknown>} */
  ended = Promise.resolve();

  listening() {
    return this.events.filter(({ ev }) => ev === "listening");
  }

  /** Port of the endpoint with this position. @param {number} at */
  port(at = 0) {
    return Number(this.listening()[at]?.addr?.split(":").at(-1));
  }

  /** Address of the console, with its token. */
  get url() {
    return this.events.find(({ ev }) => ev === "console")?.url ?? "";
  }

  get origin() {
    return new URL(this.url).origin;
  }

  /** Calls the API as a script does. @param {string} address @param {RequestInit} [init] */
  async api(address, init = {}) {
    const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
    const answer = await fetch(`${this.origin}/api/v1${address}`, { ...init, headers });
    assert.ok(answer.ok, `${address}: ${answer.status} ${await answer.clone().text()}`);
    return answer.json();
  }

  /** Ends it as a user does, and waits. @param {NodeJS.Signals} [signal] */
  async stop(signal = "SIGTERM") {
    this.process.kill(signal);
    const late = setTimeout(() => this.process.kill("SIGKILL"), SOON);
    await this.ended;
    clearTimeout(late);
    if (this.ownFolder) rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A client of a server under test: lines in, lines out. */
export class Client {
  /** @param {number} port */
  static async connect(port) {
    const client = new Client();
    own.clients.push(client);
    client.socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    client.socket.on("data", (data) => (client.received += data));
    client.socket.on("error", () => {});
    await new Promise((resolve, reject) => {
      client.socket.once("connect", resolve);
      client.socket.once("error", reject);
    });
    return client;
  }

  /** @type {net.Socket} */
  socket = /** @type {any} */ (null);
  received = "";

  /** Sends, and waits for the reply. @param {string} text @param {string} reply */
  async ask(text, reply) {
    this.received = "";
    this.socket.write(text);
    await until(() => this.received.includes(reply), `the reply ${JSON.stringify(reply)}`);
  }

  close() {
    this.socket.destroy();
  }
}

/** @type {import("playwright-core").Browser | null} */
let browser = null;

async function launch() {
  const quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", ...quiet] });
}

export async function closeBrowser() {
  await browser?.close();
  browser = null;
}

/** What befell the pages of a test, told if it fails: requests without an answer, and states of their connection. @type {string[]} */
let befell = [];
/** What a test has opened. @type {{pages: import("playwright-core").Page[], clients: Client[], processes: import("node:child_process").ChildProcess[]}} */
let own = { pages: [], clients: [], processes: [] };
beforeEach(() => {
  befell = [];
  own = { pages: [], clients: [], processes: [] };
});
// A test leaves nothing open to the next one, and tells what its pages show if it fails.
afterEach(async (test) => {
  for (const client of own.clients) client.close();
  if (/** @type {any} */ (test).passed) return;
  for (const page of own.pages.filter((one) => !one.isClosed())) {
    await page.screenshot({ path: path.join(shots, `failed-${befell.length}.png`), timeout: 5000 }).catch(() => {});
    const shown = /** @type {string} */ (await page.evaluate("document.body.innerText").catch(String));
    note(`${page.url()} shows: ${shown.replace(/\s+/g, " ").slice(0, 1500)}`);
    await closeContext(page.context());
  }
  for (const process of own.processes) process.kill("SIGKILL");
  if (befell.length > 0) console.log(`${test.name}:\n  ${befell.join("\n  ")}`);
});

// What a failed test has left open would hold the runner for ever.
after(() => {
  setTimeout(() => {
    console.log("something that a test has opened is still open");
    process.exit(1);
  }, 2 * SOON).unref();
});

/** Has a process end with the test that runs, should that fail. @template {import("node:child_process").ChildProcess} T @param {T} process @returns {T} */
export function ofTest(process) {
  own.processes.push(process);
  return process;
}

/** @param {string} what */
const note = (what) => befell.push(`${new Date().toISOString().slice(11, 23)} ${what}`);

/** What a page did that none may do: errors, reports of the content security policy, dialogs, requests elsewhere. */
export class Watched {
  /** @type {string[]} */
  wrong = [];

  /** @param {import("playwright-core").Page} page @param {string} origin */
  constructor(page, origin) {
    void page.addInitScript(() => addEventListener("DOMContentLoaded", () => {
      const state = /** @type {HTMLElement} */ (document.getElementById("state"));
      const tell = () => console.debug(`state: ${state.textContent?.trim()}`);
      new MutationObserver(tell).observe(state, { subtree: true, childList: true, characterData: true });
    }));
    page.on("requestfailed", (request) => note(`${request.method()} ${request.url()}: ${request.failure()?.errorText}`));
    page.on("pageerror", (error) => {
      note(`error: ${error.message}`);
      this.wrong.push(`error: ${error.stack ?? error.message}`);
    });
    page.on("dialog", (dialog) => {
      this.wrong.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.protocol !== "data:" && url.origin !== origin) this.wrong.push(`request: ${request.url()}`);
    });
    page.on("console", (message) => {
      const text = message.text();
      if (message.type() === "debug" && text.startsWith("state:")) note(text);
      // A refused connection or a filter mistake is logged by the browser itself.
      if (message.type() === "error" && !/Failed to load resource|ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY/.test(text)) this.wrong.push(`console: ${text}`);
    });
  }

  check() {
    assert.deepEqual(this.wrong, []);
  }
}

/**
 * Opens the page in a browser of its own: no cookie, no settings. Certificates of tests are accepted.
 * @param {Server} server
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function openPage(server, options = {}) {
  const opened = await newPage(server, options);
  await opened.page.goto(server.url);
  return opened;
}

/** @param {Server} server @param {import("playwright-core").BrowserContextOptions} options */
async function newPage(server, options) {
  browser ??= await launch();
  const context = await browser.newContext({ viewport: SIZES[0], ignoreHTTPSErrors: true, ...options });
  context.setDefaultTimeout(SOON);
  const page = await context.newPage();
  own.pages.push(page);
  const watched = new Watched(page, server.origin);
  return { context, page, watched, close: () => closeContext(context) };
}

/** A call that a test answers itself may still be under way. @param {import("playwright-core").BrowserContext} context */
async function closeContext(context) {
  for (const page of context.pages()) await page.unrouteAll({ behavior: "ignoreErrors" });
  await context.close();
}

/**
 * Opens the console in a browser of its own, and waits until it is live and shows a screen.
 *
 * The session is opened by a call. The address with the token leads to Live first, and what a screen shows stays until the scripts
 * of the next one are loaded: a test that looked then would see Live.
 * @param {Server} server
 * @param {import("playwright-core").BrowserContextOptions & {at?: string}} [options] `at`: address of a screen
 */
export async function openConsole(server, { at = "#/live", ...options } = {}) {
  const opened = await newPage(server, options);
  const { context, page } = opened;
  const token = new URLSearchParams(new URL(server.url).hash.slice(1)).get("t");
  const answer = await context.request.post(`${server.origin}/api/v1/session`, { data: { token } });
  assert.ok(answer.ok(), `a session: ${answer.status()} ${await answer.text()}`);
  await page.goto(`${server.origin}/${at}`);
  await page.locator("#state", { hasText: "live" }).waitFor();
  // The scripts of the screen may still be on their way.
  await page.locator("#main > :not(noscript)").first().waitFor({ state: "attached" });
  return opened;
}

const axeSource = () => readFileSync(path.join(root, "tests/browser/node_modules/axe-core/axe.min.js"), "utf8");

/** Rules of accessibility that the page breaks. @param {import("playwright-core").Page} page @returns {Promise<string[]>} */
export async function axe(page) {
  await page.evaluate(axeSource());
  // Colours are those of a page at rest: a row that flashes has those of the theme it began in. What never ends is not waited for.
  const rests = () => page.evaluate(() => document.getAnimations().every((one) => one.playState !== "running" || one.effect?.getComputedTiming().endTime === Number.POSITIVE_INFINITY));
  await until(rests, "nothing moves");
  return page.evaluate(async () => {
    const { violations, passes } = await /** @type {any} */ (window).axe.run(document);
    if (passes.length < 10) return ["axe did not run"];
    return violations.map((/** @type {any} */ v) => `${v.id}: ${v.nodes.map((/** @type {any} */ n) => n.html.slice(0, 120)).join(" | ")}`);
  });
}

/** Writes a screenshot. @param {import("playwright-core").Page} page @param {string} name */
export async function shoot(page, name) {
  await page.screenshot({ path: path.join(shots, `${name}.png`) });
}

/** Waits until what a scroll or a click changed is drawn: the page draws once a frame. @param {import("playwright-core").Page} page */
export async function drawn(page) {
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** The rows of a list that are in view, from the top: their ids, and their distance from the top of the page. @param {import("playwright-core").Page} page */
export async function visibleRows(page) {
  return page.evaluate(() => {
    const view = document.getElementById("main")?.getBoundingClientRect();
    const head = document.querySelector(".row.head")?.getBoundingClientRect();
    const top = Math.max(view?.top ?? 0, head?.bottom ?? 0);
    const rows = [...document.querySelectorAll(".rows-body > [data-key]")].map((row) => ({
      key: Number(/** @type {HTMLElement} */ (row).dataset.key),
      y: row.getBoundingClientRect().top,
    }));
    return rows.filter(({ y }) => y > top - 1 && y < (view?.bottom ?? 0)).sort((a, b) => a.y - b.y);
  });
}
