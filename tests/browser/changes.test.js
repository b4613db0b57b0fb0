/**
 * Rows that change while they are shown, wait or load; and the console as a process beside the server, which knows less.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import { Client, closeBrowser, drawn, ofTest, openConsole, program, Server, TOKEN, until } from "./support.js";

/** @typedef {import("playwright-core").Page} Page */

/** @type {Server} */
let server;

before(async () => {
  server = await Server.start(["upper=tcp://127.0.0.1:0?frame=line", "greet=tcp://127.0.0.1:0"]);
  for (let n = 0; n < 30; n++) await greeted();
});

after(async () => {
  await server?.stop();
  await closeBrowser();
});

/** A client that is greeted and gone. */
async function greeted() {
  const client = await Client.connect(server.port(1));
  await until(() => client.received !== "", "the greeting");
  client.socket.end();
}

const allEnded = () => until(async () => (await server.api("/conversations?q=is:open")).conversations.length === 0, "all conversations have ended");

/** Word and number of exchanges in each row of the page. @param {Page} page */
const shown = (page) => page.locator(".convs .rows-body > .row").evaluateAll((rows) => Object.fromEntries(rows.map((row) => [
  /** @type {HTMLElement} */ (row).dataset.key, `${row.querySelector(".c-n")?.textContent} ${row.querySelector(".c-end")?.textContent}`])));

/** What the record says of the same rows. @param {Record<string, string>} rows */
async function recorded(rows) {
  const { conversations } = await server.api("/conversations?limit=200");
  const all = new Map(conversations.map((/** @type {any} */ one) => [String(one.conv), `${one.exchanges} ${one.reason ?? one.state}`]));
  return Object.fromEntries(Object.keys(rows).map((key) => [key, all.get(key)]));
}

/** Waits until the page says of each of its rows what the record says. @param {Page} page */
async function agree(page) {
  let rows = await shown(page);
  let record = await recorded(rows);
  await until(async () => {
    rows = await shown(page);
    record = await recorded(rows);
    return Object.keys(rows).length > 0 && JSON.stringify(rows) === JSON.stringify(record);
  }, "page and record say the same").catch(() => assert.deepEqual(rows, record));
}

test("conversations that open and end at once are shown as ended", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations" });
  await page.locator(".convs .rows-body > .row").first().waitFor();
  const newest = Number(Object.keys(await shown(page)).at(-1));
  for (let n = 0; n < 60; n++) {
    await greeted();
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  await allEnded();
  await until(async () => Object.keys(await shown(page)).some((key) => Number(key) >= newest + 60), "the last row");
  await agree(page);
  watched.check();
  await close();
});

test("rows that wait behind the bar have the end and the exchanges that came meanwhile", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations", viewport: { width: 1440, height: 500 } });
  await page.locator(".convs .rows-body > .row").first().waitFor();
  // The map above the rows comes later than they: it would move them.
  await page.locator(".minimap svg").waitFor();
  await until(() => page.evaluate(() => {
    const main = /** @type {HTMLElement} */ (document.getElementById("main"));
    main.scrollTo(0, 400);
    return main.scrollTop === 400;
  }), "scrolled");
  await drawn(page);
  const clients = await Promise.all([0, 1, 2].map(() => Client.connect(server.port(0))));
  await page.getByRole("button", { name: "3 new" }).waitFor();
  for (const [n, client] of clients.entries()) {
    for (let k = 0; k <= n; k++) await client.ask(`wait ${k}\n`, `WAIT ${k}`);
    client.socket.end();
  }
  await allEnded();
  // The page has read the same events when it has drawn one that came after them.
  await greeted();
  await page.getByRole("button", { name: "4 new" }).waitFor();
  await allEnded();
  await page.keyboard.press("G");
  await page.getByRole("button", { name: "4 new" }).waitFor({ state: "hidden" });
  await agree(page);
  watched.check();
  await close();
});

test("a change that comes while the list is loaded is not lost", async () => {
  const { page, watched, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  await until(async () => (await server.api("/conversations?q=is:open")).conversations.length === 1, "it is open");
  // The answer is read from the server while the conversation is open, and reaches the page after its end.
  let late = true;
  await page.route(/\/api\/v1\/conversations\?limit=200$/, async (route) => {
    const answer = await route.fetch();
    if (late) {
      late = false;
      client.socket.end();
      await allEnded();
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
    await route.fulfill({ response: answer });
  });
  await page.getByRole("link", { name: "Conversations" }).click();
  await agree(page);
  assert.equal(late, false, "the answer was late");
  watched.check();
  await close();
});

test("an open conversation tells the bytes of its messages so far in both lists, an ended one those of its socket", async () => {
  const client = await Client.connect(server.port(0));
  await client.ask("open one\n", "OPEN ONE\n");
  const conv = await until(async () => (await server.api("/conversations?q=req:%22open%20one%22")).conversations[0]?.conv, "it is recorded");
  const { page, watched, close } = await openConsole(server, { at: "#/conversations" });
  const cells = (/** @type {string} */ kind) => page.locator(`#conversation-${conv} ${kind}`);
  /** What a screen reader says of a cell. @param {string} kind */
  const shownText = (kind) => cells(kind).evaluate((cell) => [...cell.childNodes].filter((node) => !(/** @type {HTMLElement} */ (node).hidden)).map((node) => node.textContent).join(""));
  /** @param {string} received @param {string} sent */
  const says = (received, sent) => until(async () => (await shownText(".c-in")) === received && (await shownText(".c-out")) === sent, `${received}, ${sent}`);
  await cells(".c-in").waitFor();
  await says("9 B so far", "9 B so far");
  await client.ask("and more\n", "AND MORE\n");
  await says("18 B so far", "18 B so far");
  const live = await openConsole(server, { at: "#/live" });
  await live.page.locator(".peers").getByText("18 B of requests, 18 B of replies so far").waitFor();
  await client.ask("third\n", "THIRD\n");
  await live.page.locator(".peers").getByText("24 B of requests, 24 B of replies so far").waitFor();
  await says("24 B so far", "24 B so far");
  // Bytes that make no message count once the socket's are known.
  client.socket.end("rest");
  await cells(".c-end").getByText("peer-closed").waitFor();
  const { received, sent } = await server.api(`/conversations/${conv}`);
  assert.equal(received, 28);
  await says("28 B", `${sent} B`);
  await until(async () => (await live.page.locator(".peers .so-far").count()) === 0, "nothing is so far any more");
  for (const one of [watched, live.watched]) one.check();
  await live.close();
  await close();
});

test("echoic console shows no figure that it cannot know, and says of itself that it stopped", async () => {
  const child = ofTest(spawn(program, ["console", "--store", server.store, "--console", "127.0.0.1:0"], {
    env: { PATH: process.env.PATH, ECHOIC_TOKEN: TOKEN }, stdio: ["ignore", "ignore", "pipe"],
  }));
  let told = "";
  child.stderr.on("data", (data) => (told += data));
  const origin = await until(() => /http:\/\/127\.0\.0\.1:\d+/.exec(told)?.[0], "the console listens");
  const { page, close } = await openConsole(/** @type {any} */ ({ url: `${origin}/#t=${TOKEN}`, origin }));
  /** @param {string} name */
  const figure = (name) => page.locator(".figures > div", { hasText: name }).locator("dd").last().textContent();
  const client = await Client.connect(server.port(0));
  await client.ask("counted\n", "COUNTED\n");
  await until(async () => /^[1-9]/.test((await page.locator(".store dd").first().textContent()) ?? ""), "figures of a second");
  await until(async () => (await figure("open conversations")) === "1", "a tick was drawn");
  assert.deepEqual([await figure("store behind"), await figure("declared lost")], ["–", "–"]);
  child.kill("SIGTERM");
  await page.getByText(/^The console stopped at/).waitFor();
  assert.equal(await page.getByText("echoic stopped").count(), 0, "the server goes on");
  await client.ask("still here\n", "STILL HERE\n");
  client.close();
  await close();
});
