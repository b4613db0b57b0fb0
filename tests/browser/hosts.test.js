/**
 * Live with the tiers as processes of their own: a real nats-server, two servers, a worker, a keeper and the console.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { axe, Client, closeBrowser, openConsole, program, SIZES, SOON, shoot, shots, THEMES, TOKEN, until } from "./support.js";

/** @typedef {import("node:child_process").ChildProcess & {printed: string}} Child */
/** @typedef {Parameters<typeof openConsole>[0]} Site */

const folder = mkdtempSync(path.join(tmpdir(), "echoic-hosts-"));
/** @type {Child[]} */
const children = [];
const sites = /** @type {{nats: string, worker: Child, keeper: Child, first: Child, second: Child, console: Site}} */ ({});

/** A free port. @returns {Promise<number>} */
async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = /** @type {net.AddressInfo} */ (probe.address());
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Starts a program, and waits until it has printed a word. @param {string} name @param {string[]} args @param {string} ready @returns {Promise<Child>} */
async function start(name, args, ready) {
  const env = { PATH: process.env.PATH, ECHOIC_TOKEN: TOKEN };
  const child = /** @type {Child} */ (/** @type {unknown} */ (spawn(name, args, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] })));
  child.printed = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (child.printed += data));
  children.push(child);
  await until(() => {
    assert.equal(child.exitCode, null, `${args[0]} ended: ${child.printed}`);
    return child.printed.includes(ready);
  }, `${args[0]} prints ${ready}`);
  return child;
}

/** Ends one, and waits. @param {Child} child @param {NodeJS.Signals} signal */
async function end(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGCONT");
  child.kill(signal);
  const late = setTimeout(() => child.kill("SIGKILL"), SOON);
  await ended;
  clearTimeout(late);
}

/** Port of a server. @param {Child} child */
const portOf = (child) => Number(/listening on tcp:\/\/127\.0\.0\.1:(\d+)/.exec(child.printed)?.[1]);

/** @returns {Promise<Child>} */
const worker = () => start(program, ["work", "upper", "--on", `${sites.nats}/upper`], "working:");

before(async () => {
  const port = await freePort();
  writeFileSync(path.join(folder, "nats.conf"), "jetstream { max_file_store: 16GB }\n");
  await start("nats-server", ["--config", "nats.conf", "--addr", "127.0.0.1", "--port", String(port), "--store_dir", "js"], "Server is ready");
  sites.nats = `nats://127.0.0.1:${port}`;
  const { nats } = sites;
  sites.keeper = await start(program, ["keep", "--from", `${nats}/record`, "--store", "record.db"], "keeping:");
  sites.worker = await worker();
  const serve = ["--store", `${nats}/record`, "--on", nats, "--frame", "line"];
  sites.first = await start(program, ["serve", "127.0.0.1:0", "--as", `${nats}/upper`, ...serve], "recording in");
  sites.second = await start(program, ["serve", "lower=127.0.0.1:0", ...serve], "recording in");
  const beside = await start(program, ["console", "--console", "127.0.0.1:0", "--store", "record.db", "--on", nats], "console on");
  const url = /console on (\S+)/.exec(beside.printed)?.[1] ?? "";
  sites.console = /** @type {Site} */ (/** @type {unknown} */ ({ url, origin: new URL(url).origin }));
});

after(async () => {
  await closeBrowser();
  for (const child of children.reverse()) await end(child, "SIGTERM");
  rmSync(folder, { recursive: true, force: true });
  console.log(`screenshots are in ${shots}`);
});

/** The row of a process. @param {import("playwright-core").Page} page @param {Child} child */
const row = (page, child) => page.locator(".host-card li", { has: page.locator(".mono", { hasText: pidOf(child) }) });
/** The end of its name: its number alone may begin another. @param {Child} child */
const pidOf = (child) => new RegExp(`:${child.pid}$`);

/** @param {import("playwright-core").Page} page @param {string} name */
async function look(page, name) {
  for (const { width, height } of SIZES) {
    for (const theme of THEMES) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: theme });
      const show = page.getByRole("button", { name: "Show", exact: true });
      if (await show.isVisible()) await show.click();
      if (width < 720 && name === "hosts-silent") await page.getByText(/1 process does not answer/).waitFor();
      assert.deepEqual(await axe(page), [], `${name}, ${width}, ${theme}`);
      const beyond = await page.locator(".facts .out").evaluateAll((all) => all.filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.textContent));
      assert.deepEqual(beyond, [], `${name}, ${width}, ${theme}: cut off`);
      await shoot(page, `${name}-${width}-${theme}`);
    }
  }
  await page.setViewportSize(/** @type {any} */ (SIZES[0]));
}

test("each process stands below its tier, with its host and how far it is behind", async () => {
  const { page, watched, close } = await openConsole(sites.console);
  const clients = await Promise.all([sites.first, sites.second].map((server) => Client.connect(portOf(server))));
  await clients[0]?.ask("Hello\n", "HELLO\n");
  await clients[1]?.ask("Hello\n", "hello\n");
  for (const server of [sites.first, sites.second]) {
    await row(page, server).getByText("running").waitFor();
    await row(page, server).getByText("all acknowledged").waitFor();
    await page.locator(".card.endpoint .host", { hasText: pidOf(server) }).waitFor();
  }
  await row(page, sites.worker).getByText("0 pending, 0 in flight").waitFor();
  await row(page, sites.keeper).getByText("all stored").waitFor();
  await page.getByRole("heading", { name: "Servers and workers (3)" }).waitFor();
  await page.getByText("2 servers, 1 worker").waitFor();
  await page.getByText("1 keeper", { exact: true }).waitFor();
  assert.equal(await page.getByText("another process").count(), 0);
  // Their flash has the colours of the theme it began in.
  await until(async () => (await page.locator(".rows-body > .row").count()) === 2, "both exchanges");
  await look(page, "hosts");
  for (const client of clients) client.close();
  watched.check();
  await close();
});

test("a keeper that hangs is told, with what waits for it", async () => {
  const { page, close } = await openConsole(sites.console);
  await row(page, sites.keeper).getByText("all stored").waitFor();
  sites.keeper.kill("SIGSTOP");
  const client = await Client.connect(portOf(sites.second));
  await client.ask("Nobody stores this\n", "nobody stores this\n");
  await row(page, sites.keeper).getByText("no answer").waitFor();
  await row(page, sites.keeper).getByText(/batch(es)? waiting, oldest/).waitFor();
  await page.getByText("1 keeper (no answer)").waitFor();
  await look(page, "hosts-behind");
  sites.keeper.kill("SIGCONT");
  await row(page, sites.keeper).getByText("all stored").waitFor();
  client.close();
  await close();
});

test("a server that hangs has no endpoints and no answer, and both come back", async () => {
  const { page, close } = await openConsole(sites.console);
  const host = page.locator(".card.endpoint .host", { hasText: pidOf(sites.second) });
  await host.waitFor();
  sites.second.kill("SIGSTOP");
  await row(page, sites.second).getByText("no answer").waitFor();
  await host.waitFor({ state: "detached" });
  await page.getByText("2 servers (1 no answer), 1 worker").waitFor();
  await look(page, "hosts-silent");
  sites.second.kill("SIGCONT");
  await row(page, sites.second).getByText("running").waitFor();
  await host.waitFor();
  await close();
});

test("a process that ends leaves the page, and one that starts comes", async () => {
  const { page, close } = await openConsole(sites.console);
  await row(page, sites.worker).waitFor();
  await end(sites.worker, "SIGTERM");
  await row(page, sites.worker).waitFor({ state: "detached" });
  const unserved = page.locator(".card.endpoint", { has: page.locator(".host", { hasText: pidOf(sites.first) }) }).getByText(/Cannot answer: .*\/upper has no worker/);
  await unserved.waitFor();
  await look(page, "hosts-unserved");
  sites.worker = await worker();
  await row(page, sites.worker).getByText("running").waitFor();
  await unserved.waitFor({ state: "detached" });
  await close();
});

test("the page asks at most every two seconds", async () => {
  const { page, close } = await openConsole(sites.console);
  await row(page, sites.keeper).waitFor();
  /** @type {number[]} */
  const asked = [];
  // By the clock of the browser: this process may hear of several at once.
  page.on("requestfinished", (request) => {
    if (request.url().endsWith("/api/v1/processes")) asked.push(request.timing().startTime);
  });
  // Twelve seconds apart, less one that comes with a fresh answer of /info, and a first one that was late. Asked every second they take six.
  await until(() => asked.length >= 7, "seven questions", 2 * SOON);
  const spent = (asked[6] ?? 0) - (asked[0] ?? 0);
  assert.ok(spent >= 7000, `seven questions in ${spent} ms`);
  await close();
});
