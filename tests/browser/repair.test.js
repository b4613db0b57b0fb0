/**
 * Events that are lost and calls that fail or answer late: the page repairs what it shows.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Client, closeBrowser, drawn, openConsole, Server, until, visibleRows } from "./support.js";

/** @typedef {import("playwright-core").Page} Page */

/** @type {Server} */
let server;

before(async () => {
  server = await Server.start(["upper=tcp://127.0.0.1:0?frame=line"]);
  const client = await Client.connect(server.port());
  await client.ask("first\n", "FIRST\n");
  client.close();
});

after(async () => {
  await server?.stop();
  await closeBrowser();
});

// Each test finds no open conversation but its own.
afterEach(() => until(async () => (await server.api("/conversations?q=is:open")).conversations.length === 0, "all have ended"));

/** Opens a screen of which the events can be held back, and others be told. @param {string} at */
async function openHeard(at) {
  const opened = await openConsole(server, { at: "#/about" });
  await opened.page.addInitScript(() => {
    const told = /** @type {any} */ (window);
    const Real = SharedWorker;
    told.SharedWorker = class extends Real {
      /** @param {string} url @param {WorkerOptions} options */
      constructor(url, options) {
        super(url, options);
        // Before the page hears it.
        this.port.addEventListener("message", (event) => {
          if (event.data.topic === "hello") told.hello = event.data.data;
          if (told.missed?.includes(event.data.topic) && event.isTrusted) event.stopImmediatePropagation();
        });
        told.tell = (/** @type {string} */ topic, /** @type {any} */ data) => this.port.dispatchEvent(new MessageEvent("message", { data: { topic, data } }));
      }
    };
  });
  await opened.page.goto(`${server.origin}/${at}`);
  await opened.page.reload();
  await opened.page.locator("#state", { hasText: "live" }).waitFor();
  await until(() => opened.page.evaluate(() => /** @type {any} */ (window).hello !== undefined), "events are heard");
  /** Holds back events of these topics. @param {string[]} topics */
  const miss = (topics) => opened.page.evaluate((missed) => Object.assign(window, { missed }), topics);
  /** @param {string} topic @param {any} [data] */
  const tell = (topic, data) => opened.page.evaluate(([name, what]) => /** @type {any} */ (window).tell(name, what ?? /** @type {any} */ (window).hello), [topic, data]);
  return { ...opened, miss, tell };
}

/** Lets the first `n` calls of an address fail. @param {Page} page @param {RegExp} address @param {number} n */
async function failFirst(page, address, n) {
  const calls = { failed: 0 };
  await page.route(address, (route) => {
    if (calls.failed >= n) return route.continue();
    calls.failed++;
    return route.abort();
  });
  return calls;
}

/** A client that says something, and its conversation. @param {string} text @param {string} [more] */
async function connected(text, more = "") {
  const client = await Client.connect(server.port());
  await client.ask(`${text}${more}\n`, "\n");
  const conv = await until(async () => (await server.api(`/conversations?q=req:${text}`)).conversations[0]?.conv, "it is recorded");
  return { client, conv };
}

/** @param {number} conv */
const ended = (conv) => until(async () => (await server.api(`/conversations/${conv}`)).state === "ended", "it has ended");

test("Live comes up though its first calls fail", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/about" });
  const info = await failFirst(page, /\/api\/v1\/info$/, 4);
  const list = await failFirst(page, /\/api\/v1\/exchanges\?/, 2);
  await page.goto(`${server.origin}/#/live`);
  await page.locator(".card.endpoint").waitFor();
  await page.locator(".rows-body > .row").first().waitFor();
  assert.ok(info.failed > 2 && list.failed === 2, "the calls have failed");
  watched.check();
  await close();
});

test("Conversations come up though the first list fails, with a row that came meanwhile", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/about" });
  await failFirst(page, /\/api\/v1\/conversations\?limit=200$/, 1);
  await page.goto(`${server.origin}/#/conversations`);
  await page.locator(".convs .row").first().waitFor();
  const { client, conv } = await connected("meanwhile");
  await page.locator(`#conversation-${conv}`).waitFor();
  client.close();
  watched.check();
  await close();
});

test("a row of a filter comes though the call for it fails", async () => {
  for (const [screen, address] of /** @type {[string, RegExp][]} */ ([["live", /\/exchanges\?.*after=[1-9]/], ["conversations", /\/conversations\?q=conv/]])) {
    const { page, watched, close } = await openConsole(server, { at: `#/${screen}?q=any:first,late` });
    await page.locator(".rows-body > .row").first().waitFor();
    const rows = await page.locator(".rows-body > .row").count();
    const calls = await failFirst(page, address, 3);
    const { client } = await connected("late");
    await until(async () => (await page.locator(".rows-body > .row").count()) > rows, `its row in ${screen}`);
    assert.equal(calls.failed, 3);
    client.close();
    watched.check();
    await close();
  }
});

test("a search among changed conversations goes on until it is done", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations?q=any:unfinished" });
  await page.getByText("No conversation matches so far").waitFor();
  let calls = 0;
  await page.route(/\/conversations\?q=conv/, async (route) => {
    const answer = await (await route.fetch()).json();
    calls++;
    // Of a search that ran out of its time before it found what there is.
    if (!new URL(route.request().url()).searchParams.has("before")) Object.assign(answer, { next: 1_000_000, conversations: [], searched: { done: false, left: 9 } });
    await route.fulfill({ json: answer });
  });
  const { conv } = await connected("unfinished");
  await page.locator(`#conversation-${conv}`).waitFor();
  assert.ok(calls > 1);
  watched.check();
  await close();
});

test("an older answer does not open a conversation again", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations" });
  const { client, conv } = await connected("older");
  const end = page.locator(`#conversation-${conv} .c-end`);
  await end.getByText("open").waitFor();
  let late = 0;
  await page.route(/\/conversations\?q=conv/, async (route) => {
    const answer = await route.fetch();
    if (late++ > 0) return route.fulfill({ response: answer });
    client.close();
    await end.getByText("peer-closed").waitFor();
    await route.fulfill({ response: answer });
    late = 100;
  });
  client.socket.write("again\n");
  await until(() => late >= 100, "the answer came late");
  await page.waitForTimeout(300);
  assert.equal(await end.textContent(), "peer-closed");
  watched.check();
  await close();
});

test("after a connection that was lost the lists and the conversation have the end", async () => {
  for (const screen of ["live", "conversations", "one"]) {
    const { client, conv } = await connected(`lost-${screen}`);
    const { page, watched, close, miss, tell } = await openHeard(screen === "one" ? `#/conversations/${conv}` : `#/${screen}`);
    const place = page.locator({ live: ".peers", conversations: `#conversation-${conv}`, one: ".title" }[screen] ?? "");
    await place.getByText("open", { exact: true }).waitFor();
    await miss(["conversations", "labels", "batch", "tick"]);
    client.close();
    await ended(conv);
    await tell("hello");
    await place.getByText("open", { exact: true }).waitFor({ state: "detached" });
    watched.check();
    await close();
  }
});

test("the list has all conversations that opened while the connection was lost", async () => {
  // Of one row first, and then of more rows than the list holds: it is loaded again.
  for (const n of [450, 1000]) {
    const { page, watched, close, miss, tell } = await openHeard("#/conversations");
    const rows = async () => Number(await page.locator("[role=grid]").getAttribute("aria-rowcount")) - 1;
    const before = (await server.api("/info")).store.conversations;
    await until(async () => (await rows()) === before, "the rows before");
    await miss(["conversations", "batch", "tick"]);
    for (let opened = 0; opened < n; opened += 50) await Promise.all(Array.from({ length: 50 }, () => Client.connect(server.port()).then((client) => client.close())));
    await until(async () => (await server.api("/info")).store.conversations === before + n, "all are recorded");
    await tell("hello");
    await until(async () => (await rows()) >= before + Math.min(n, 800) - 1, `${n} more rows`);
    watched.check();
    await close();
  }
});

test("rows that an event leaves out are not hidden by newer ones, while others are being asked for", async () => {
  const { page, watched, close, miss, tell } = await openHeard("#/conversations");
  const rows = async () => Number(await page.locator("[role=grid]").getAttribute("aria-rowcount")) - 1;
  const before = (await server.api("/info")).store.conversations;
  await until(async () => (await rows()) === before, "the rows before");
  await miss(["conversations", "batch", "tick"]);
  let release = () => {};
  const released = new Promise((resolve) => (release = () => resolve(null)));
  let calls = 0;
  await page.route(/\/conversations\?.*after=/, async (route) => {
    const answer = await route.fetch();
    if (++calls === 1) await released;
    await route.fulfill({ response: answer });
  });
  await tell("conversations", { opened: [], half: [], ended: [], more: 1 });
  await until(() => calls === 1, "rows are asked for");
  for (let n = 0; n < 10; n++) (await Client.connect(server.port())).close();
  await until(async () => (await server.api("/info")).store.conversations === before + 10, "all are recorded");
  const [newest] = (await server.api("/conversations?limit=1")).conversations;
  await tell("conversations", { opened: [newest], half: [], ended: [], more: 9 });
  await page.locator(`#conversation-${newest.conv}`).waitFor();
  release();
  await until(async () => (await rows()) === before + 10, "all rows");
  watched.check();
  await close();
});

test("a call for the newest rows that fails leaves the list as it was, and it tells new ones", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations" });
  await page.locator(".rows-body > .row").first().waitFor();
  // So far down that the newest rows are no longer loaded.
  await page.locator("#main").evaluate((main) => main.scrollTo(0, main.scrollHeight));
  const first = (await server.api("/conversations?limit=1&after=0")).conversations[0].conv;
  await page.locator(`#conversation-${first}`).waitFor();
  const calls = await failFirst(page, /\/conversations\?limit=200$/, 1);
  await page.keyboard.press("G");
  await until(() => calls.failed === 1, "the call has failed");
  const { client, conv } = await connected("newest");
  await page.getByRole("button", { name: /^\d+ new/ }).waitFor();
  await page.keyboard.press("G");
  await page.locator(`#conversation-${conv}`).waitFor();
  client.close();
  watched.check();
  await close();
});

test("conversations that an event leaves out end on Live too, and its cards stay", async () => {
  const { client, conv } = await connected("left-out");
  const { page, watched, close, miss, tell } = await openHeard("#/live");
  await page.locator(".peers").getByText("open", { exact: true }).waitFor();
  const card = await page.locator(".card.endpoint").elementHandle();
  await miss(["conversations", "tick"]);
  client.close();
  await ended(conv);
  await tell("conversations", { opened: [], half: [], ended: [], more: 1 });
  await page.locator(".peers").getByText("open", { exact: true }).waitFor({ state: "detached" });
  assert.ok(await card?.evaluate((node) => node.isConnected), "the card is the same element");
  watched.check();
  await close();
});

test("endpoints that come back under other ids are asked for, once", async () => {
  const { page, close, miss, tell } = await openHeard("#/live");
  await page.locator(".card.endpoint").waitFor();
  await miss(["tick"]);
  let asked = 0;
  page.on("request", (request) => {
    if (request.url().endsWith("/api/v1/info")) asked++;
  });
  const { endpoints } = await server.api("/info");
  const tick = { t_us: 0, endpoints: [{ ...endpoints[0], id: 77, exchanges: 0, opened: 0, ended: 0 }], clients: [], exchanges: 0, open: 0, recorded: 0, failing: null };
  for (let n = 0; n < 8; n++) {
    await tell("tick", tick);
    await page.waitForTimeout(1000);
  }
  assert.equal(asked, 1);
  await close();
});

test("Escape reaches the screen also if the console's facts come after it", async () => {
  const { conv } = (await server.api("/conversations?limit=1")).conversations[0];
  const { page, close } = await openConsole(server, { at: "#/about" });
  await page.route(/\/api\/v1\/info$/, async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await route.continue();
  });
  await page.goto(`${server.origin}/#/conversations/${conv}`);
  await page.reload();
  await page.locator("#send").waitFor();
  await page.locator(".pair").first().waitFor();
  await page.keyboard.press("n");
  await page.getByRole("dialog", { name: "Send" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog", { name: "Send" }).waitFor({ state: "hidden" });
  assert.match(page.url(), /conversations\/\d/, "the drawer alone has taken it");
  await page.keyboard.press("Escape");
  await page.locator(".convs .row").first().waitFor();
  await close();
});

test("a pause stops figures that are on their way", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/numbers?view=tables&step=1s" });
  const rows = page.getByRole("table", { name: "By endpoint" });
  await rows.getByText("127.0.0.1").waitFor();
  let late = 0;
  await page.route(/\/api\/v1\/stats\?/, async (route) => {
    late++;
    const answer = await route.fetch();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await route.fulfill({ response: answer }).catch(() => {});
    late += 100;
  });
  const { client } = await connected("counted");
  await until(() => late > 0, "they are asked for");
  await page.keyboard.press("Space");
  const text = await page.locator("#main").textContent();
  await until(() => late > 100, "the answer");
  await page.waitForTimeout(500);
  assert.equal(await page.locator("#main").textContent(), text);
  client.close();
  watched.check();
  await close();
});

test("what is pressed is not replaced while it is shown", async () => {
  const { client, conv } = await connected("pressed");
  const { page, watched, close } = await openConsole(server, { at: "#/numbers" });
  const cell = page.locator("[data-endpoint] [role=cell]").nth(6);
  await cell.waitFor();
  const [part, words] = [await cell.elementHandle(), await cell.textContent()];
  await client.ask("more of it\n", "MORE OF IT\n");
  await until(async () => (await cell.textContent()) !== words, "other figures");
  assert.ok(await part?.evaluate((node) => node.isConnected), "the row is the same");
  await page.goto(`${server.origin}/#/conversations/${conv}`);
  const note = await page.getByRole("button", { name: "Write a note" }).elementHandle();
  await client.ask("and more\n", "AND MORE\n");
  await page.locator("#m3").waitFor();
  await drawn(page);
  assert.ok(await note?.evaluate((node) => node.isConnected), "the button is the same");
  client.close();
  watched.check();
  await close();
});

test("a second press loads no bytes twice", async () => {
  const { client, conv } = await connected("long", "x".repeat(100_000));
  const { page, watched, close } = await openConsole(server, { at: `#/conversations/${conv}` });
  let calls = 0;
  let pressed = () => {};
  const pressedTwice = new Promise((resolve) => (pressed = () => resolve(null)));
  await page.route(/\/exchanges\/\d+\/request/, async (route) => {
    calls++;
    await pressedTwice;
    await route.continue();
  });
  const box = page.locator("#m1 .q");
  for (let n = 0; n < 2; n++) await box.getByRole("button", { name: /^Show/ }).click();
  pressed();
  await box.getByText(/^6\d(\.\d)? KiB of/).waitFor();
  assert.equal(calls, 1);
  client.close();
  watched.check();
  await close();
});

test("a message that is recorded while older ones are loaded appears at the end", async () => {
  const { client, conv } = await connected("talk");
  for (let n = 2; n <= 200; n++) await client.ask(`m${n}\n`, `M${n}\n`);
  const exchanges = async () => (await server.api(`/conversations/${conv}`)).exchanges;
  await until(async () => (await exchanges()) === 200, "all are recorded");
  const { page, watched, close, miss, tell } = await openHeard(`#/conversations/${conv}?at=200`);
  await page.locator("#m200.at").waitFor();
  await miss(["batch", "conversations", "tick"]);
  await client.ask("one more\n", "ONE MORE\n");
  await until(async () => (await exchanges()) === 201, "one more is recorded");
  const talk = page.locator(".talk");
  await talk.evaluate((node) => node.scrollTo(0, 0));
  await page.locator("#m1").waitFor();
  await tell("hello");
  await until(async () => {
    await talk.evaluate((node) => node.scrollTo(0, node.scrollHeight));
    return (await page.locator("#m201").count()) === 1;
  }, "it is in the page");
  watched.check();
  await close();
});

test("what is typed while a message is being sent stays", async () => {
  const { conv } = await connected("composed");
  const { page, watched, close } = await openConsole(server, { at: `#/conversations/${conv}` });
  let release = () => {};
  const released = new Promise((resolve) => (release = () => resolve(null)));
  await page.route(/\/conversations\/\d+\/send$/, async (route) => {
    await released;
    await route.continue();
  });
  const field = page.getByLabel("Message to the peer");
  const sent = page.waitForRequest(/\/send$/);
  await field.fill("first of two");
  await field.press("Enter");
  await sent;
  await field.fill("second of two");
  const answer = page.waitForResponse(/\/send$/);
  release();
  assert.ok((await answer).ok());
  await drawn(page);
  assert.equal(await field.inputValue(), "second of two");
  await field.press("Enter");
  await until(async () => (await field.inputValue()) === "", "what was sent is gone");
  watched.check();
  await close();
});

test("Escape in a dialog closes the dialog, and nothing else", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations" });
  await page.locator(".rows-body > .row").first().waitFor();
  const marked = page.getByRole("toolbar", { name: "Marked conversations" });
  for (const key of ["j", "x", "t"]) await page.keyboard.press(key);
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.ok(await marked.getByText("1 marked").isVisible());
  await page.keyboard.press("Escape");
  await marked.waitFor({ state: "hidden" });
  watched.check();
  await close();
});

test("rows of a gap that come late do not move the reader", async () => {
  const { client } = await connected("reader");
  for (let n = 0; n < 100; n++) await client.ask(`r${n}\n`, `R${n}\n`);
  const newest = async () => (await server.api("/exchanges?limit=1")).exchanges[0];
  await until(async () => (await server.api("/exchanges?q=req:r99")).exchanges.length === 1, "all are recorded");
  const { page, watched, close, miss, tell } = await openHeard("#/live");
  const { id } = await newest();
  await page.locator(`#exchange-${id}`).waitFor();
  await miss(["batch", "conversations", "tick"]);
  for (let n = 0; n < 30; n++) await client.ask(`g${n}\n`, `G${n}\n`);
  const last = await until(async () => ((await newest()).id === id + 30 ? newest() : null), "all of the gap are recorded");
  await tell("gap", { from: id + 1, to: id + 29, n: 29 });
  await tell("batch", { exchanges: [last], more: 0, first: last.id, last: last.id });
  await page.locator(`#exchange-${last.id}`).waitFor();
  let release = () => {};
  const released = new Promise((resolve) => (release = () => resolve(null)));
  const asked = page.waitForRequest(/\/exchanges\?.*before=/);
  await page.route(/\/exchanges\?.*before=/, async (route) => {
    await released;
    await route.continue();
  });
  await page.getByRole("button", { name: "Load them" }).click();
  await asked;
  await page.locator("#main").evaluate((main) => main.scrollBy(0, 1200));
  await drawn(page);
  const [before] = await visibleRows(page);
  const rows = async () => Number(await page.locator("[role=grid]").getAttribute("aria-rowcount"));
  const some = await rows();
  release();
  await until(async () => (await rows()) === some + 28, "29 rows in place of the gap");
  await drawn(page);
  const [after] = await visibleRows(page);
  assert.deepEqual(after, before);
  watched.check();
  await close();
});
