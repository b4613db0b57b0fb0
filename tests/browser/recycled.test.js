/**
 * Lists fill the elements of rows that leave the view with rows that enter it: nothing of the one may stay with the other.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, closeBrowser, drawn, openConsole, Server, until, visibleRows } from "./support.js";

/** @typedef {import("playwright-core").Page} Page */

/** @type {Server} */
let server;

before(async () => {
  server = await Server.start(["upper=tcp://127.0.0.1:0?frame=line", "upper=udp://127.0.0.1:0"]);
  const client = await Client.connect(server.port(0));
  // Every row differs in its signs, its length and its parts.
  const lines = Array.from({ length: 400 }, (_, n) => `row ${n}${"\t".repeat(n % 3)}${n % 5 === 0 ? "\x1b[1m" : ""} ${"long ".repeat(n % 7)}`);
  for (let n = 0; n < 400; n += 50) await client.ask(`${lines.slice(n, n + 50).join("\n")}\n`, `ROW ${n + 49}`);
  client.socket.end();
  for (let n = 0; n < 80; n++) {
    const one = await Client.connect(server.port(0));
    await one.ask(`talk ${n}\n`, `TALK ${n}`);
    if (n % 3 === 0) one.socket.resetAndDestroy();
    else one.socket.end();
  }
  await until(async () => (await server.api("/conversations?q=is:open")).conversations.length === 0, "all have ended");
});

after(async () => {
  await server?.stop();
  await closeBrowser();
});

/** Scrolls the list to `top`, and waits until rows lie there. @param {Page} page @param {number} top */
async function scrollTo(page, top) {
  await page.evaluate((to) => document.getElementById("main")?.scrollTo(0, to), top);
  await drawn(page);
  await until(async () => {
    const [rows, bottom] = [await visibleRows(page), await page.evaluate(() => document.getElementById("main")?.getBoundingClientRect().bottom ?? 0)];
    const [first, second, last] = [rows[0], rows[1], rows.at(-1)];
    return first && second && last && (last.key === 1 || last.y + 2 * (second.y - first.y) > bottom);
  }, `a view full of rows at ${top}`);
}

/** Texts of the cells of each row in the page. @param {Page} page */
const cells = (page) => page.locator(".rows-body > .row").evaluateAll((rows) => Object.fromEntries(rows.map((row) => [/** @type {HTMLElement} */ (row).dataset.key,
  [row.id, row.querySelector(".sr")?.textContent, ...[...row.children].map((cell) => `${cell.className} ${cell.textContent} ${cell.getAttribute("title")}`)].join(" | ")])));

test("a row has its own words whichever element it is in", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/live" });
  await page.locator(".rows-body > .row").first().waitFor();
  await scrollTo(page, 0);
  const first = await cells(page);
  /** @type {Record<string, string>} */
  const all = {};
  for (const top of [2000, 4000, 6000, 5000, 1000, 7000, 300]) {
    await scrollTo(page, top);
    for (const [key, text] of Object.entries(await cells(page))) {
      assert.equal(all[key] ?? text, text, `row ${key}`);
      all[key] = text;
    }
  }
  await scrollTo(page, 0);
  assert.deepEqual(await cells(page), first);
  const { exchanges } = await server.api("/exchanges?limit=1000");
  for (const { id, rep } of exchanges) {
    const text = all[id];
    if (text) assert.ok(text.includes(/^[A-Z]+ \d+/.exec(rep.text)?.[0] ?? "?"), `${id}: ${text}`);
  }
  assert.ok(Object.keys(all).length > 200, "rows were seen");
  watched.check();
  await close();
});

test("scrolling makes no elements anew", async () => {
  const { page, close } = await openConsole(server, { at: "#/live" });
  await page.locator(".rows-body > .row").first().waitFor();
  // The tiers move the rows when they come: more of them may be in view at the same place then.
  await page.locator(".card.endpoint").first().waitFor();
  // As many as are needed at most, and the rows of all these places loaded.
  for (const top of [0, 3400, 4800, 6000, 3000]) await scrollTo(page, top);
  await page.evaluate(() => {
    for (const row of document.querySelectorAll(".rows-body > .row")) Object.assign(row, { known: true });
  });
  for (const top of [3400, 4800, 6000, 3000]) await scrollTo(page, top);
  const fresh = () => page.locator(".rows-body > .row").evaluateAll((rows) => rows.filter((row) => !/** @type {any} */ (row).known).length);
  assert.equal(await fresh(), 0);
  await close();
});

test("the focus and selected text leave the page with their row", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations", viewport: { width: 1440, height: 500 } });
  await page.locator(".convs .rows-body > .row").first().waitFor();
  // The map above the rows comes later than they: it would move them.
  await page.locator(".minimap svg").waitFor();
  const box = page.locator(".convs .rows-body input").nth(1);
  await box.click();
  await page.getByText("1 marked").waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.tagName);
  assert.equal(await focused(), await box.getAttribute("aria-label"), "a box keeps the focus when it is marked");
  await scrollTo(page, 1500);
  assert.ok(["BODY", "MAIN"].includes((await focused()) ?? ""), `no other row has the focus: ${await focused()}`);
  assert.equal(await page.locator(".convs .rows-body input:checked").count(), 0, "no other row is marked");
  await page.evaluate(() => {
    const row = [...document.querySelectorAll(".rows-body > .row")].find((one) => one.getBoundingClientRect().top > 250);
    getSelection()?.selectAllChildren(/** @type {Element} */ (row?.querySelector(".c-id")));
  });
  const selected = () => page.evaluate(() => getSelection()?.toString() ?? "");
  const text = await selected();
  assert.match(text, /^c\d+$/);
  await scrollTo(page, 1550);
  assert.equal(await selected(), text, "selected text stays while its row is shown");
  await scrollTo(page, 0);
  assert.equal(await selected(), "", "it never becomes the text of another row");
  await page.locator(".convs .rows-body input:checked").waitFor();
  watched.check();
  await close();
});

test("after a box was ticked with the pointer, keys act on the list", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations" });
  await page.locator(".convs .rows-body > .row").first().waitFor();
  await page.locator(".convs .rows-body input").nth(2).click();
  await page.keyboard.press("j");
  await page.locator(".convs .row.focus").waitFor();
  await page.keyboard.press("Enter");
  await page.locator(".talk .ev").first().waitFor();
  watched.check();
  await close();
});
