/**
 * Makes the pictures of README.md, of a real server with real clients. Run by `tests/browser/screenshots`.
 */
import dgram from "node:dgram";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Client, closeBrowser, openConsole, Server, until } from "./support.js";

const folder = process.argv[2] ?? path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../docs/images");
/** Ports that read well; no test uses them. */
const ENDPOINTS = ["upper=tcp://127.0.0.1:25000?frame=line", "upper=udp://127.0.0.1:25000", "greet=tcp://127.0.0.1:25001"];
const SIZE = { width: 1280, height: 800 };
const LINES = ["hello", "café au lait", "Straße, Привет, 😀", '{"id": 7, "name": "Zoë"}', "GET / HTTP/1.1", "tab\there", "what you send comes back", "\x1b[31mred\x1b[0m"];

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Sends lines until it is told to stop. @param {Client} client @param {number} every in ms @param {{stop: boolean}} run */
async function talk(client, every, run) {
  for (let n = 0; !run.stop; n++) {
    client.socket.write(`${LINES[n % LINES.length]}\n`);
    await sleep(every);
  }
}

/** @param {number} every in ms @param {{stop: boolean}} run */
async function datagrams(every, run) {
  const socket = dgram.createSocket("udp4");
  for (let n = 0; !run.stop; n++) {
    socket.send(n % 3 === 2 ? Buffer.from([0, 255, 27, 104, 101, 108, 108, 111]) : `datagram ${n}`, 25000, "127.0.0.1");
    await sleep(every);
  }
  socket.close();
}

/** Clients that are greeted, one after the other. @param {number} every in ms @param {{stop: boolean}} run */
async function greeted(every, run) {
  while (!run.stop) {
    const client = await Client.connect(25001);
    await until(() => client.received !== "", "the greeting");
    client.close();
    await sleep(every);
  }
}

const server = await Server.start(ENDPOINTS, { args: ["--retention", "7d"] });
try {
  const { page } = await openConsole(server, { viewport: SIZE, colorScheme: "light" });
  const run = { stop: false };
  const clients = await Promise.all([1, 2, 3, 4].map(() => Client.connect(25000)));
  const [first, second, third, quiet] = /** @type {[Client, Client, Client, Client]} */ (clients);
  const traffic = [talk(first, 230, run), talk(second, 410, run), talk(third, 900, run), datagrams(700, run), greeted(2500, run)];
  await quiet.ask("last words before the half-close\n", "LAST");
  quiet.socket.end();
  await sleep(8000);
  third.socket.resetAndDestroy();
  await sleep(2500);
  mkdirSync(folder, { recursive: true });
  // A dot on its way: just after a message.
  await first.ask("hello\n", "HELLO\n");
  await page.locator(".lane .run").first().waitFor();
  await sleep(120);
  await page.screenshot({ path: path.join(folder, "live.png") });
  run.stop = true;
  await Promise.all(traffic);

  const { exchanges } = await server.api("/exchanges?q=id:1&limit=1");
  await page.goto(`${server.origin}/#/conversations/${exchanges[0].conv}?at=4`);
  await page.locator("article.pair").first().waitFor();
  await page.locator("#main .box.q pre", { hasText: "Straße" }).first().click({ position: { x: 60, y: 14 } });
  await sleep(1000);
  await page.screenshot({ path: path.join(folder, "conversation.png") });
  for (const client of clients) client.close();
} finally {
  await server.stop();
  await closeBrowser();
}
console.log(`the pictures are in ${folder}`);
