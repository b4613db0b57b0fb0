/**
 * The Conversations screen: found, marked, exported, tagged, and kept up to date, with a real server.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { axe, Client, closeBrowser, drawn, openConsole, Server, SIZES, shoot, THEMES, until, visibleRows } from "./support.js";

/** @typedef {import("playwright-core").Page} Page */

/** @type {Server} */
let server;
/** A conversation that stays open. @type {Client} */
let quiet;

before(async () => {
  server = await Server.start(["upper=tcp://127.0.0.1:0?frame=line", "greet=tcp://127.0.0.1:0", "upper=udp://127.0.0.1:0"]);
  quiet = await Client.connect(server.port(0));
  await quiet.ask("quiet one\n", "QUIET ONE\n");
  for (let n = 0; n < 30; n++) {
    const client = await Client.connect(server.port(n % 5 === 0 ? 1 : 0));
    if (n % 5 !== 0) await client.ask(`needle-${n} line\n`, `NEEDLE-${n}`);
    else await until(() => client.received !== "", "the greeting");
    if (n % 7 === 3) client.socket.resetAndDestroy();
    else client.socket.end();
  }
  await until(async () => (await server.api("/conversations?q=is:open")).conversations.length === 1, "only the quiet one is open");
});

after(async () => {
  quiet?.close();
  await server?.stop();
  await closeBrowser();
});

/** @param {Page} page */
const rows = (page) => page.locator(".convs .rows-body > .row");
/** @param {Page} page @param {string | RegExp} text */
const row = (page, text) => rows(page).filter({ hasText: text });
/** @param {Page} page */
const list = async (page) => {
  await rows(page).first().waitFor();
  return rows(page);
};
const AT = "#/conversations";

test("the list shows each conversation with the word of the record", async () => {
  const { page, watched, close } = await openConsole(server, { at: AT });
  await list(page);
  const recorded = (await server.api("/conversations?limit=100")).conversations;
  assert.equal(await page.getByText(`${recorded.length} conversations`).count(), 1);
  const { conv } = recorded.find((/** @type {any} */ { reason }) => reason === "peer-reset");
  const text = await page.locator(`#conversation-${conv}`).textContent();
  assert.match(text ?? "", /peer-reset/);
  assert.equal(await page.locator(`#conversation-${conv} .c-end.bad`).count(), 1);
  assert.equal(await row(page, "service-closed").count(), recorded.filter((/** @type {any} */ { reason }) => reason === "service-closed").length);
  assert.equal(await row(page, /open$/).count(), 1);
  watched.check();
  await close();
});

test("a filter finds conversations, is in the address, and a mistake names its column", async () => {
  const { page, watched, close } = await openConsole(server, { at: AT });
  await list(page);
  await page.keyboard.press("/");
  await page.keyboard.type("req:needle-7");
  await page.keyboard.press("Enter");
  await until(async () => (await rows(page).count()) === 1, "one row");
  assert.equal(new URL(page.url()).hash, "#/conversations?q=req%3Aneedle-7");
  await page.locator(".tabs").getByText("This filter").waitFor();
  await page.locator("#q").fill("latt:>5ms");
  await page.keyboard.press("Enter");
  await page.getByText(/Column 1:/).waitFor();
  await page.locator("#q").fill("req:nowhere-at-all");
  await page.keyboard.press("Enter");
  await page.getByText("No conversation matches so far").waitFor();
  const late = await Client.connect(server.port(0));
  await late.ask("this is nowhere-at-all\n", "NOWHERE");
  await until(async () => (await rows(page).count()) === 1, "a conversation that matches later appears");
  late.socket.end();
  await row(page, "peer-closed").waitFor();
  await page.getByRole("link", { name: "Reset" }).click();
  await row(page, "peer-reset").first().waitFor();
  await until(async () => (await rows(page).count()) === (await row(page, "peer-reset").count()), "only resets");
  watched.check();
  await close();
});

test("a filter is saved as a tab, stays after a reload, and is removed", async () => {
  const { page, watched, close } = await openConsole(server, { at: `${AT}?q=req%3Aneedle-8` });
  await until(async () => (await rows(page).count()) === 1, "one row");
  const tabs = page.getByRole("navigation", { name: "Filters at hand" });
  await tabs.getByRole("button", { name: "Keep this filter as a tab" }).click();
  const tab = tabs.getByRole("link", { name: /^req:needle-8/ });
  assert.equal(await tab.getAttribute("aria-current"), "true");
  assert.equal(await tabs.getByText("This filter").count(), 0);
  await page.reload();
  await tab.waitFor();
  await tabs.getByRole("link", { name: /^All/ }).click();
  await until(async () => (await rows(page).count()) > 1, "all rows");
  await tab.focus();
  await page.keyboard.press("Enter");
  await until(async () => (await rows(page).count()) === 1, "one row again");
  assert.equal(new URL(page.url()).hash, "#/conversations?q=req%3Aneedle-8");
  await tabs.getByRole("button", { name: "Remove the tab req:needle-8" }).click();
  await tabs.getByText("This filter").waitFor();
  assert.equal(await tab.count(), 0);
  watched.check();
  await close();
});

test("a conversation that opens appears at the top, and away from there the bar counts it", async () => {
  const { page, watched, close } = await openConsole(server, { at: AT, viewport: { width: 1440, height: 500 } });
  await list(page);
  const before = await visibleRows(page);
  const client = await Client.connect(server.port(0));
  await client.ask("new at the top\n", "NEW");
  await until(async () => ((await visibleRows(page))[0]?.key ?? 0) > (before[0]?.key ?? 0), "the new row");
  // The map above the rows comes later than they: it would move them.
  await page.locator(".minimap svg").waitFor();
  await until(() => page.evaluate(() => {
    const main = /** @type {HTMLElement} */ (document.getElementById("main"));
    main.scrollTo(0, 400);
    return main.scrollTop === 400;
  }), "scrolled");
  await drawn(page);
  const place = await visibleRows(page);
  const others = [await Client.connect(server.port(0)), await Client.connect(server.port(0))];
  await page.getByRole("button", { name: "2 new" }).waitFor();
  assert.deepEqual(await visibleRows(page), place, "rows stay where they are");
  await page.keyboard.press("G");
  await until(async () => ((await visibleRows(page))[0]?.key ?? 0) > (place[0]?.key ?? 0) + 2, "at the newest");
  await page.getByRole("button", { name: /^\d+ new/ }).waitFor({ state: "hidden" });
  for (const one of [client, ...others]) one.close();
  watched.check();
  await close();
});

test("a quiet conversation flashes where it stands when it speaks", async () => {
  const { page, close } = await openConsole(server, { at: AT });
  await list(page);
  const { conv } = (await server.api("/conversations?q=is:open%20req:quiet")).conversations[0];
  const own = page.locator(`#conversation-${conv}`);
  await own.waitFor({ state: "attached" });
  await new Promise((resolve) => setTimeout(resolve, 11_000));
  await page.evaluate((id) => {
    const body = /** @type {Element} */ (document.querySelector(".convs .rows-body"));
    new MutationObserver(() => {
      if (document.getElementById(id)?.classList.contains("new")) Object.assign(window, { flashed: true });
    }).observe(body, { childList: true, subtree: true });
  }, `conversation-${conv}`);
  await quiet.ask("it speaks\n", "IT SPEAKS\n");
  await until(() => page.evaluate(() => /** @type {any} */ (window).flashed === true), "the flash");
  assert.match((await own.locator(".c-n").textContent()) ?? "", /2/);
  await close();
});

test("marked conversations are exported and tagged, and the tag finds them", async () => {
  const { page, watched, close } = await openConsole(server, { at: `${AT}?q=req:needle-2`, acceptDownloads: true });
  await list(page);
  const ids = (await server.api("/conversations?q=req:needle-2")).conversations.map((/** @type {any} */ { conv }) => conv);
  await page.locator(".convs.rows").focus();
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.getByRole("toolbar", { name: "Marked conversations" }).getByText("2 marked").waitFor();
  await page.keyboard.press("e");
  const download = page.waitForEvent("download");
  await page.getByRole("menuitem", { name: "JSON lines" }).click();
  const file = await (await download).path();
  const lines = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ conv }) => conv).sort((a, b) => b - a), ids.slice(0, 2));
  await page.keyboard.press("t");
  await page.getByLabel("New tags").fill("ci slow");
  await page.getByRole("button", { name: "Save" }).click();
  await until(async () => (await rows(page).locator(".tag", { hasText: "slow" }).count()) === 2, "two rows with the tag");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  const tagged = (await server.api("/conversations?q=tag:slow")).conversations.map((/** @type {any} */ { conv }) => conv);
  assert.deepEqual(tagged, ids.slice(0, 2));
  await page.keyboard.press("Escape");
  await page.getByRole("toolbar").waitFor({ state: "hidden" });
  await page.locator(".tabs").getByRole("link", { name: /^slow/ }).click();
  await until(async () => (await rows(page).count()) === 2, "the tag as a filter");
  watched.check();
  await close();
});

test("a long search shows what it has found, and can be stopped and taken up again", async () => {
  const { page, watched, close } = await openConsole(server, { at: AT });
  await list(page);
  const all = (await server.api("/conversations?limit=100")).conversations;
  let calls = 0;
  let goOn = () => {};
  const stopped = new Promise((resolve) => (goOn = () => resolve(null)));
  // The answers of the real server, divided into parts as a slow search gives them. It does not end before it is stopped.
  await page.route(/\/api\/v1\/conversations\?q=svc/, async (route) => {
    const url = new URL(route.request().url());
    if (url.searchParams.get("after") !== null) return route.continue();
    calls++;
    const before = Number(url.searchParams.get("before") ?? all[0].conv + 1);
    if (calls > 3) await stopped;
    const part = all.filter((/** @type {any} */ { conv, svc }) => conv < before && conv >= before - 5 && svc === "upper");
    const left = Math.max(0, before - 6);
    await route.fulfill({ json: { conversations: part, next: left > 0 ? before - 5 : null, searched: { to: before - 5, left, done: left <= 0 } } });
  });
  await page.locator("#q").fill("svc:upper");
  await page.keyboard.press("Enter");
  await page.getByText(/[1-9]\d* so far, still searching/).waitFor();
  assert.equal(await page.getByText(/^0 so far/).count(), 0);
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByText(/Stopped: \d+ found, \d+ not searched/).waitFor();
  const found = await rows(page).count();
  assert.ok(found > 0);
  goOn();
  await page.getByRole("button", { name: "Go on" }).click();
  await until(async () => (await rows(page).count()) > found, "more rows");
  watched.check();
  await close();
});

test("the order turns at the head of the column", async () => {
  const { page, watched, close } = await openConsole(server, { at: AT });
  await list(page);
  await page.getByRole("button", { name: /Start/ }).click();
  await until(async () => (await rows(page).first().locator(".c-id").textContent()) === "c1", "the oldest first");
  assert.match(page.url(), /order=oldest/);
  watched.check();
  await close();
});

test("the list by keyboard alone: move, mark, open, and back", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/live" });
  // The second key counts for a moment only.
  await until(async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("c");
    return page.locator(".convs").waitFor({ timeout: 1000 }).then(() => true, () => false);
  }, "the list");
  await list(page);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const current = await page.locator(".convs .row.focus .c-id").textContent();
  await page.keyboard.press("Enter");
  await page.locator(".talk .ev").first().waitFor();
  assert.equal(await page.getByRole("heading", { name: `Conversation ${current}` }).count(), 1);
  await page.keyboard.press("Escape");
  await list(page);
  watched.check();
  await close();
});

test("back from a conversation, the list stands where it was", async () => {
  const { page, watched, close } = await openConsole(server, { at: AT, viewport: { width: 1440, height: 500 } });
  await list(page);
  for (let n = 0; n < 25; n++) await page.keyboard.press("j");
  const current = page.locator(".convs .row.focus .c-id");
  const id = await current.textContent();
  await page.keyboard.press("Enter");
  await page.locator(".talk .ev").first().waitFor();
  await page.keyboard.press("u");
  await current.waitFor();
  assert.equal(await current.textContent(), id);
  watched.check();
  await close();
});

test("the map shows exchanges over time, and a drag on it filters", async () => {
  const { page, watched, close } = await openConsole(server, { at: AT });
  const map = page.getByRole("img", { name: /^[\d,]+ exchanges from \d\d:\d\d:\d\d to \d\d:\d\d:\d\d$/ });
  await map.waitFor();
  const { exchanges } = (await server.api("/info")).store;
  assert.ok((await map.getAttribute("aria-label"))?.startsWith(`${exchanges} exchanges`), "all are in the range");
  assert.notEqual(await map.locator(".area").getAttribute("d"), "");
  await map.locator(".brush").waitFor();
  const box = await map.boundingBox();
  assert.ok(box);
  await page.mouse.move(box.x + 5, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + 105, box.y + 20, { steps: 4 });
  await page.mouse.up();
  await until(() => /q=after%3A\d{4}-\d\d-\d\dT\S+Z?\+before%3A/.test(page.url()), "the range as a filter");
  const q = new URLSearchParams(page.url().split("?")[1]).get("q") ?? "";
  const { conversations } = await server.api(`/conversations?limit=200&q=${encodeURIComponent(q)}`);
  await page.locator(".tabs [aria-current=true] small", { hasText: new RegExp(`^${conversations.length}$`) }).waitFor();
  watched.check();
  await close();
});

test("without a conversation the list tells how to send the first message", async () => {
  const empty = await Server.start(["upper=tcp://127.0.0.1:0?frame=line"]);
  const { page, watched, close } = await openConsole(empty, { at: AT });
  await page.getByText(`nc 127.0.0.1 ${empty.port(0)}`).waitFor();
  const client = await Client.connect(empty.port(0));
  await client.ask("first\n", "FIRST\n");
  await rows(page).first().waitFor();
  client.close();
  watched.check();
  await close();
  await empty.stop();
});

test("the list is accessible, and looks as it should at each width in both themes", async () => {
  const { page, watched, close } = await openConsole(server, { at: AT });
  await list(page);
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  for (const { width, height } of SIZES) {
    for (const theme of THEMES) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: theme });
      await list(page);
      assert.deepEqual(await axe(page), [], `conversations, ${width}, ${theme}`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.equal(over, false, `nothing is cut off at ${width}`);
      await shoot(page, `conversations-${width}-${theme}`);
    }
  }
  watched.check();
  await close();
});
