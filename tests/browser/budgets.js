/**
 * Measures what the console promises to its readers: frames while scrolling a long record, the time from an exchange to its row,
 * first paint, and the page's memory over time. Run by `bench/console.py`; `ECHOIC_BIN` names a release build.
 *
 * Prints a line of JSON for each figure, times in ms. It fills a record by itself: `MESSAGES` in one conversation, then `EXCHANGES`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Client, closeBrowser, openConsole, Server, until } from "./support.js";

/** @typedef {import("playwright-core").Page} Page */

const EXCHANGES = Number(process.env.EXCHANGES ?? 1_000_000);
const MESSAGES = Number(process.env.MESSAGES ?? 100_000);
/** Time that the page is open under load, for its memory, in minutes; 0 leaves it out. */
const MINUTES = Number(process.env.MINUTES ?? 0);
/** Lines that one write holds. */
const AT_ONCE = 500;
/** Lines of one conversation, of those that are many. */
const EACH = 5_000;

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** @param {Record<string, unknown>} figure */
const print = (figure) => process.stdout.write(`${JSON.stringify(figure)}\n`);

/** @param {number[]} values @param {number} share */
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** @param {number} value */
const rounded = (value) => Math.round(value * 10) / 10;

/** One conversation of `lines` lines. @param {number} port @param {number} lines */
async function converse(port, lines) {
  const socket = net.connect({ port, host: "127.0.0.1" });
  let replies = 0;
  socket.on("data", (data) => {
    for (const byte of data) if (byte === 10) replies++;
  });
  for (let sent = 0; sent < lines; ) {
    const count = Math.min(AT_ONCE, lines - sent);
    socket.write(Array.from({ length: count }, (_, n) => `line ${sent + n} of a talk\n`).join(""));
    sent += count;
    await until(() => replies === sent, `${sent} replies`);
  }
  socket.end();
}

/** Scrolls by the wheel for some seconds; returns the time of each frame. @param {Page} page */
async function scroll(page) {
  await page.mouse.move(600, 500);
  await page.evaluate(() => {
    const frames = /** @type {number[]} */ ([]);
    let last = performance.now();
    const each = (/** @type {number} */ now) => {
      frames.push(now - last);
      last = now;
      requestAnimationFrame(each);
    };
    requestAnimationFrame(each);
    Object.assign(window, { frames });
  });
  const until = Date.now() + 8_000;
  for (let n = 0; Date.now() < until; n++) {
    await page.mouse.wheel(0, n % 40 < 30 ? 600 : -400);
    await sleep(16);
  }
  const frames = await page.evaluate(() => /** @type {number[]} */ (/** @type {any} */ (window).frames));
  return frames.slice(2);
}

/** Drags the scrollbar to places far apart; returns the time until rows are drawn there. @param {Page} page */
async function jump(page) {
  const times = [];
  for (const share of [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4]) {
    times.push(
      await page.evaluate(async (at) => {
        const row = document.querySelector(".rows-body > .row, .pair");
        let list = /** @type {HTMLElement} */ (row?.parentElement);
        while (list.scrollHeight <= list.clientHeight || getComputedStyle(list).overflowY === "visible") list = /** @type {HTMLElement} */ (list.parentElement);
        const start = performance.now();
        list.scrollTo(0, list.scrollHeight * at);
        const inView = () =>
          [...document.querySelectorAll(".rows-body > .row, .pair")].some((row) => {
            const { top, bottom } = row.getBoundingClientRect();
            return top > 200 && bottom < innerHeight;
          });
        await new Promise((resolve) => requestAnimationFrame(resolve));
        while (!inView() && performance.now() - start < 10_000) await new Promise((resolve) => requestAnimationFrame(resolve));
        return performance.now() - start;
      }, share),
    );
  }
  return times;
}

/** @param {Server} server @param {string} what @param {string} at @param {string} rows */
async function list(server, what, at, rows) {
  const { page, close } = await openConsole(server, { at });
  await page.locator(rows).first().waitFor();
  await sleep(1000);
  const frames = await scroll(page);
  print({ what: `${what}: frame while scrolling`, n: frames.length, p50: rounded(quantile(frames, 0.5)), p95: rounded(quantile(frames, 0.95)), max: rounded(Math.max(...frames)) });
  const jumps = await jump(page);
  print({ what: `${what}: rows after a jump`, n: jumps.length, p50: rounded(quantile(jumps, 0.5)), max: rounded(Math.max(...jumps)) });
  await close();
}

/** Time from the sending of a message to the frame that draws its row. @param {Server} server */
async function latency(server) {
  const { page, close } = await openConsole(server, { at: "#/live" });
  await page.locator("[data-key]").first().waitFor();
  await page.evaluate(() => {
    const seen = /** @type {Record<string, number>} */ ({});
    const look = () => {
      for (const row of document.querySelectorAll("[data-key]")) {
        const word = /mark-\d+-end/.exec(row.textContent ?? "")?.[0];
        if (word && !seen[word]) seen[word] = performance.timeOrigin + performance.now();
      }
      requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
    Object.assign(window, { seen });
  });
  const client = await Client.connect(server.port());
  const sent = [];
  for (let n = 0; n < 200; n++) {
    sent.push(performance.timeOrigin + performance.now());
    client.socket.write(`mark-${n}-end\n`);
    await sleep(40 + (n % 7) * 9);
  }
  await sleep(1000);
  const seen = await page.evaluate(() => /** @type {Record<string, number>} */ (/** @type {any} */ (window).seen));
  const times = sent.flatMap((at, n) => (seen[`mark-${n}-end`] ?? Number.NaN) - at).filter((ms) => !Number.isNaN(ms));
  client.close();
  await close();
  print({ what: "message sent to row drawn", n: times.length, p50: rounded(quantile(times, 0.5)), p95: rounded(quantile(times, 0.95)), max: rounded(Math.max(...times)) });
}

/** @param {Server} server */
async function firstPaint(server) {
  const times = [];
  for (let n = 0; n < 5; n++) {
    const { page, close } = await openConsole(server, { at: "#/live" });
    await page.reload();
    await page.locator("[data-key]").first().waitFor();
    times.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Number.NaN));
    await close();
  }
  print({ what: "first contentful paint", n: times.length, p50: rounded(quantile(times, 0.5)), max: rounded(Math.max(...times)) });
}

/** Memory of the page under a load of some 10,000 exchanges a second. @param {Server} server */
async function heap(server) {
  const { page, context, close } = await openConsole(server, { at: "#/live" });
  const session = await context.newCDPSession(page);
  const run = { stop: false };
  const load = (async () => {
    while (!run.stop) await converse(server.port(), EACH).then(() => sleep(EACH / 10));
  })();
  for (let minute = 1; minute <= MINUTES; minute++) {
    await sleep(60_000);
    await session.send("HeapProfiler.collectGarbage");
    const { usedSize } = await session.send("Runtime.getHeapUsage");
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    print({ what: "heap of the page under load", minute, mib: rounded(usedSize / 2 ** 20), nodes });
  }
  run.stop = true;
  await load;
  await close();
}

const folder = mkdtempSync(path.join(tmpdir(), "echoic-budgets-"));
const server = await Server.start(["upper=tcp://127.0.0.1:0?frame=line"], { folder, args: ["--retention", "off"] });
try {
  await converse(server.port(), MESSAGES);
  for (let n = 0; n < EXCHANGES; n += EACH) await converse(server.port(), EACH);
  await until(async () => (await server.api("/info")).store.exchanges >= MESSAGES + EXCHANGES, "all is recorded");
  await firstPaint(server);
  await list(server, `${EXCHANGES} exchanges`, "#/live", ".rows-body > .row");
  const first = (await server.api("/conversations?after=0&limit=1")).conversations[0].conv;
  await list(server, `${MESSAGES} messages of a conversation`, `#/conversations/${first}`, ".pair");
  await latency(server);
  if (MINUTES > 0) await heap(server);
} finally {
  await server.stop();
  await closeBrowser();
  rmSync(folder, { recursive: true, force: true });
}
