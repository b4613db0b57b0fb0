/**
 * Two hundred payloads of attacks are recorded, tagged and noted, and every view is visited: nothing of them runs, loads or leaves the page.
 */
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, test } from "node:test";
import { closeBrowser, openConsole, Server, until, Watched } from "./support.js";

/** What runs or loads if it reaches a page, a style sheet, a terminal, a spreadsheet or a template as more than text. */
const SEEDS = [
  "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "<iframe srcdoc='<script>alert(1)</script>'>",
  "<a href=javascript:alert(1)>x</a>", "<math><mtext></math><script>alert(1)</script>", "<object data=http://198.51.100.7/x>", "<link rel=stylesheet href=http://198.51.100.7/x>",
  "<base href=http://198.51.100.7/>", "<meta http-equiv=refresh content='0;url=http://198.51.100.7/'>", "<style>@import 'http://198.51.100.7/x';</style>", "<body onload=alert(1)>",
  "\"><script>alert(1)</script>", "'-alert(1)-'", "</textarea><script>alert(1)</script>", "--><script>alert(1)</script>", "]]><script>alert(1)</script>",
  "{{constructor.constructor('alert(1)')()}}", "$" + "{alert(1)}", "=HYPERLINK(\"http://198.51.100.7\")", "@SUM(1)", "\x1b]8;;http://198.51.100.7\x07x\x1b]8;;\x07", "\x1b[2J", "\u202e\u2066gnp", "\u0000\u0001",
];
const WRAPPED = [
  (/** @type {string} */ text) => text,
  (/** @type {string} */ text) => text.toUpperCase(),
  (/** @type {string} */ text) => `GET /${text} HTTP/1.1`,
  (/** @type {string} */ text) => `{"a": "${text}"}`,
  (/** @type {string} */ text) => encodeURIComponent(text),
  (/** @type {string} */ text) => `${text}\xff`,
  (/** @type {string} */ text) => text.repeat(200),
  (/** @type {string} */ text) => `\ufeff${text}`,
];
const PAYLOADS = WRAPPED.flatMap((wrap) => SEEDS.map(wrap));

/** @type {Server} */
let server;

before(async () => {
  server = await Server.start(["echo=tcp://127.0.0.1:0?frame=line"]);
  const socket = net.connect(server.port(), "127.0.0.1");
  let replies = 0;
  socket.on("data", (data) => (replies += data.filter((byte) => byte === 10).length));
  for (const payload of PAYLOADS) socket.write(`${payload}\n`);
  await until(() => replies === PAYLOADS.length, "each is echoed");
  socket.destroy();
  await until(async () => (await server.api("/exchanges/count")).count === PAYLOADS.length, "each is recorded");
  await server.api("/conversations/1", { method: "PATCH", body: JSON.stringify({ note: PAYLOADS.slice(0, 20).join("\n") }) });
});

after(async () => {
  await server?.stop();
  await closeBrowser();
});

test("there are 200 payloads", () => assert.equal(PAYLOADS.length, 200));

test("no view runs, loads or reports anything of a recorded payload", async () => {
  const { page, watched, close } = await openConsole(server);
  const settle = () => page.waitForTimeout(300);
  for (const at of ["#/live", "#/conversations", "#/numbers", "#/about", "#/conversations/1"]) {
    await page.goto(`${server.origin}/${at}`);
    await settle();
    assert.equal(await page.locator("main iframe, main object, main img, main script, main style, main link, main base").count(), 0, at);
  }
  for (const view of ["Text", "Hex", "Both", "Escaped"]) {
    await page.getByRole("button", { name: view, exact: true }).click();
    await settle();
  }
  for (const n of [1, 50, 100, 150, 200]) {
    await page.goto(`${server.origin}/#/conversations/1?at=${n}`);
    await settle();
  }
  for (const seed of SEEDS) {
    await page.goto(`${server.origin}/#/live?q=${encodeURIComponent(`any:${JSON.stringify(seed)}`)}`);
    await page.waitForTimeout(50);
  }
  watched.check();
  await close();
});

test("the same page without these guards would be noticed", async () => {
  const { context, close } = await openConsole(server);
  const page = await context.newPage();
  const watched = new Watched(page, server.origin);
  await page.goto("about:blank");
  await page.setContent("<img src=x onerror=alert(1)><img src=http://127.0.0.1:9/x>");
  await until(() => watched.wrong.some((what) => what.startsWith("dialog")) && watched.wrong.some((what) => what.startsWith("request")), "what a payload does is seen");
  await page.goto(server.origin);
  await page.evaluate("document.body.append(Object.assign(document.createElement('img'), { src: 'http://127.0.0.1:9/y' }))");
  await until(() => watched.wrong.some((what) => /Content Security Policy/.test(what)), "a report of the policy is seen");
  await close();
});
