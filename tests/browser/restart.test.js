/**
 * The console as its own process beside a serve under load: each is killed in turn, twenty times in all. Neither notices the other, and the page
 * shows each exchange once.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import net from "node:net";
import { after, test } from "node:test";
import { closeBrowser, drawn, ofTest, openConsole, program, Server, SOON, TOKEN, until } from "./support.js";

const KILLS = 20;
/** Time between two messages of the load, in ms. */
const EVERY = 20;

after(closeBrowser);

/** A free port. @returns {Promise<number>} */
async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = /** @type {net.AddressInfo} */ (probe.address());
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** `echoic console` beside the serve. @param {Server} server @param {number} port */
async function startConsole(server, port) {
  const child = ofTest(spawn(program, ["console", "--store", server.store, "--console", `127.0.0.1:${port}`], {
    env: { PATH: process.env.PATH, ECHOIC_TOKEN: TOKEN },
    stdio: ["ignore", "ignore", "pipe"],
  }));
  const isUp = () => fetch(`http://127.0.0.1:${port}/livez`).then((answer) => answer.ok).catch(() => false);
  await until(isUp, "the console answers");
  return child;
}

/** Sends numbered lines over a new connection whenever the old one is gone, each until it is answered. @param {() => number} port */
function load(port) {
  const answered = { last: 0, stopped: false, done: Promise.resolve() };
  /** One connection. @returns {Promise<void>} */
  const connect = () => new Promise((resolve) => {
    const socket = net.connect(port(), "127.0.0.1");
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const next = () => {
      if (answered.stopped) socket.end();
      else socket.write(`load ${answered.last + 1}\n`);
    };
    socket.on("connect", next);
    socket.on("data", (data) => {
      if (!data.includes(10)) return;
      answered.last += 1;
      timer = setTimeout(next, EVERY);
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve();
    });
  });
  const run = async () => {
    while (!answered.stopped) {
      await connect();
      await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
  };
  answered.done = run();
  return answered;
}

test("console and server are killed in turn twenty times, and the page has each row once", { timeout: 300_000 }, async () => {
  let server = await Server.start(["upper=tcp://127.0.0.1:0?frame=line"]);
  const [port, folder, consolePort] = [server.port(), server.folder, await freePort()];
  let beside = await startConsole(server, consolePort);
  const origin = `http://127.0.0.1:${consolePort}`;
  const { page, watched, close } = await openConsole(/** @type {any} */ ({ url: `${origin}/#t=${TOKEN}`, origin }));
  const sent = load(() => port);
  try {
    for (let n = 0; n < KILLS; n++) {
      const before = sent.last;
      if (n % 2 === 0) {
        beside.kill("SIGKILL");
        await new Promise((resolve) => beside.once("exit", resolve));
        await until(() => sent.last >= before + 5, "the server serves on without the console");
        beside = await startConsole(server, consolePort);
      } else {
        server.process.kill("SIGKILL");
        await server.ended;
        assert.ok((await fetch(`${origin}/livez`)).ok, "the console goes on without the server");
        server = await Server.start([`upper=tcp://127.0.0.1:${port}?frame=line`], { folder });
        await until(() => sent.last >= before + 5, "the server serves again");
      }
    }
    sent.stopped = true;
    await sent.done;
    const newest = (await server.api("/exchanges?limit=1")).exchanges[0];
    await page.locator("#state", { hasText: "live" }).waitFor({ timeout: SOON });
    await page.locator(`.rows-body > [data-key="${newest.id}"]`).waitFor({ timeout: SOON });
    const seen = new Set();
    let last = 0;
    const keys = () => page.locator(".rows-body > [data-key]").evaluateAll((rows) => rows.map((row) => Number(/** @type {HTMLElement} */ (row).dataset.key)));
    const total = (await server.api("/exchanges/count")).count;
    await page.locator(".rows-body").first().hover();
    // A page of rows is loaded when it comes into view: on a slow machine no row may be new for a while.
    for (let since = Date.now(); seen.size < total && Date.now() - since < SOON; ) {
      const shown = await keys();
      assert.equal(new Set(shown).size, shown.length, "no row twice");
      // A store that could not be read for a moment leaves a gap.
      if (shown.some((key) => key < 0)) await page.getByRole("button", { name: "Load them" }).first().click({ timeout: 1000 }).catch(() => {});
      for (const key of shown) if (key > 0) seen.add(key);
      if (seen.size > last) since = Date.now();
      last = seen.size;
      // Up again when it has gone to the end: a slow frame may have passed over some.
      const up = Math.floor((Date.now() - since) / 4000) % 2 === 1;
      await page.mouse.wheel(0, up ? -400 : 400);
      await drawn(page);
    }
    assert.ok(total >= KILLS * 5 - KILLS, `load arrived: ${total}`);
    assert.equal(seen.size, total, "each recorded exchange is a row");
    watched.check();
  } finally {
    sent.stopped = true;
    beside.kill("SIGKILL");
    await close();
    server.ownFolder = true;
    await server.stop();
  }
});
