/**
 * Ways to a state of the page other than the common one: opened cold, after a restart, before anything is recorded, hidden at first.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, closeBrowser, drawn, openConsole, Server, TOKEN, until } from "./support.js";

/** @typedef {import("playwright-core").Page} Page */

const UPPER = ["upper=tcp://127.0.0.1:0?frame=line"];

/** @type {Server} */
let server;
/** A conversation of 60 messages. */
let long = 0;

before(async () => {
  server = await Server.start(UPPER);
  const client = await Client.connect(server.port());
  await client.ask(Array.from({ length: 60 }, (_, n) => `m${n + 1}\n`).join(""), "M60\n");
  client.socket.end();
  long = await until(async () => (await server.api("/conversations?q=req:m60 is:closed")).conversations[0]?.conv, "it is recorded");
});

after(async () => {
  await server?.stop();
  await closeBrowser();
});

/** Runs a test at a server of its own. @param {(own: Server) => Promise<void>} run @param {Parameters<typeof Server.start>[1]} [options] */
async function withServer(run, options) {
  const own = await Server.start(UPPER, options);
  try {
    await run(own);
  } finally {
    await own.stop();
  }
}

/** The row of a list that is first in view. @param {Page} page */
const firstRow = (page) => page.locator("#main").evaluate((main) => {
  const top = document.querySelector(".row.head")?.getBoundingClientRect().bottom ?? 0;
  const rows = /** @type {HTMLElement[]} */ ([...main.querySelectorAll(".rows-body > [data-key]")]);
  return rows.map((row) => [row.getBoundingClientRect().top, row.dataset.key]).filter(([y]) => Number(y) >= top).sort((a, b) => Number(a[0]) - Number(b[0]))[0]?.[1];
});

test("a tab that has logged in becomes live while another asks for its token", () => withServer(async (own) => {
  const port = Number(new URL(own.origin).port);
  const { context, page, close } = await openConsole(own);
  await own.stop();
  await withServer(async (other) => {
    await page.getByRole("heading", { name: "This console needs its token" }).waitFor();
    const tab = await context.newPage();
    await tab.goto(other.url);
    await tab.locator("#state", { hasText: "live" }).waitFor();
  }, { console: `127.0.0.1:${port}`, env: { ECHOIC_TOKEN: TOKEN.split("").reverse().join("") } });
  await close();
}));

test("of a first burst the newest are shown", () => withServer(async (own) => {
  const { page, watched, close } = await openConsole(own);
  await page.getByRole("heading", { name: "Send the first message" }).waitFor();
  const client = await Client.connect(own.port());
  await client.ask(Array.from({ length: 500 }, (_, n) => `b${n}\n`).join(""), "B499\n");
  // The event lists the first hundred. What is missing after them is loaded.
  await page.locator("#exchange-500").waitFor();
  watched.check();
  await close();
}));

test("messages that come in short answers are all loaded", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/about" });
  await page.route(/\/conversations\/\d+\/messages\?/, async (route) => {
    const answer = await (await route.fetch()).json();
    // As the store answers where two messages have many megabytes.
    if (answer.exchanges.length > 2) Object.assign(answer, { exchanges: answer.exchanges.slice(0, 2), next: answer.exchanges[2].n });
    await route.fulfill({ json: answer });
  });
  await page.goto(`${server.origin}/#/conversations/${long}`);
  for (const n of [1, 5, 10]) await page.locator(`#m${n}`).waitFor();
  await page.goto(`${server.origin}/#/conversations/${long}?at=60`);
  await page.locator("#m60.at").waitFor();
  await page.goto(`${server.origin}/#/conversations/${long}?at=37`);
  await page.locator("#m37.at").waitFor();
  watched.check();
  await close();
});

test("rows have the height of the styles also where the list was hidden at first", () => withServer(async (own) => {
  for (const [screen, width] of /** @type {[string, number][]} */ ([["live", 800], ["conversations", 390]])) {
    const { page, watched, close } = await openConsole(own, { at: `#/about`, viewport: { width, height: 800 } });
    // As in a tab that was opened in the background: nothing tells of sizes before the list is hidden.
    await page.addInitScript(() => {
      const Real = ResizeObserver;
      window.ResizeObserver = class extends Real {
        /** @override @param {Element} node */
        observe(node) {
          setTimeout(() => super.observe(node), 1e6);
        }
      };
    });
    await page.goto(`${own.origin}/#/${screen}?q=req:${screen}`);
    await page.reload();
    await page.locator("#state", { hasText: "live" }).waitFor();
    await page.getByText(/matches so far|appears here/).first().waitFor();
    const client = await Client.connect(own.port());
    for (let n = 0; n < 2; n++) {
      const other = await Client.connect(own.port());
      await other.ask(`${screen}\n`, "\n");
    }
    await client.ask(`${screen}\n`, "\n");
    const rows = page.locator(".rows-body > .row");
    await until(async () => (await rows.count()) === 3, "three rows");
    await drawn(page);
    const boxes = await rows.evaluateAll((all) => all.map((row) => row.getBoundingClientRect()).sort((a, b) => a.y - b.y).map(({ y, height }) => [y, height]));
    for (const [at, [y = 0, height = 0]] of boxes.slice(0, -1).entries()) assert.ok(Math.abs(y + height - (boxes[at + 1]?.[0] ?? 0)) < 1, `${screen}: ${JSON.stringify(boxes)}`);
    watched.check();
    await close();
  }
}));

test("a list by a filter has all conversations of a burst", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations?q=req:burst" });
  await page.getByText("No conversation matches so far").waitFor();
  let release = () => {};
  const released = new Promise((resolve) => (release = () => resolve(null)));
  await page.route(/\/conversations\?q=conv/, async (route) => {
    await released;
    await route.continue();
  });
  // While the first of them are being asked for, more come than one call asks for.
  for (let opened = 0; opened < 240; opened += 20) {
    const clients = await Promise.all(Array.from({ length: 20 }, () => Client.connect(server.port())));
    await Promise.all(clients.map((client) => client.ask("burst\n", "BURST\n")));
    for (const client of clients) client.close();
    await page.waitForTimeout(100);
  }
  release();
  const rows = page.locator("[role=grid]");
  await until(async () => (await rows.getAttribute("aria-rowcount")) === "241", "240 rows");
  watched.check();
  await close();
});

test("another look leaves the reader at the same message, whatever the address names", async () => {
  const { page, watched, close } = await openConsole(server, { at: `#/conversations/${long}?at=9999` });
  await page.locator("#m60.at").waitFor();
  await page.locator(".talk").evaluate((talk) => talk.scrollTo(0, 0));
  await page.locator("#m1").waitFor();
  await page.keyboard.press("h");
  await page.locator("#m1 .q .hex").first().waitFor();
  await drawn(page);
  assert.ok(await page.locator(".talk").evaluate((talk) => talk.scrollTop < 400), "it is where it was");
  watched.check();
  await close();
});

test("a click on the id of a conversation leads back to its place in the list", async () => {
  for (let n = 0; n < 60; n++) (await Client.connect(server.port())).close();
  await until(async () => (await server.api("/conversations?q=is:open")).conversations.length === 0, "all are recorded");
  const { page, watched, close } = await openConsole(server, { at: "#/conversations?order=oldest", viewport: { width: 1440, height: 500 } });
  await page.locator(".rows-body > .row").first().waitFor();
  await page.locator(".minimap svg").waitFor();
  await page.locator("#main").evaluate((main) => main.scrollTo(0, 1000));
  await drawn(page);
  const key = await firstRow(page);
  await page.locator(`.rows-body > [data-key="${key}"] .c-id a`).click();
  await page.locator(".talk").waitFor();
  await page.keyboard.press("Escape");
  await page.locator(`.rows-body > [data-key="${key}"]`).waitFor();
  assert.match(page.url(), /order=oldest/);
  watched.check();
  await close();
});

test("tables of figures stand without the sentence of a chart that is not drawn", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/numbers?view=tables" });
  await page.locator("figure.chart table").first().waitFor();
  assert.equal(await page.locator("figure.chart > p:visible").count(), 0);
  watched.check();
  await close();
});

test("the key that opens the help closes it, and Escape closes nothing else", async () => {
  const { page, watched, close } = await openConsole(server, { at: `#/conversations/${long}` });
  await page.locator("#m1").waitFor();
  const help = page.getByRole("dialog");
  for (const key of ["?", "Escape"]) {
    await page.keyboard.press("?");
    await help.waitFor();
    await page.keyboard.press(key);
    await help.waitFor({ state: "hidden" });
    await drawn(page);
    assert.equal(await help.count(), 0, key);
    assert.match(page.url(), /conversations\/\d/);
  }
  watched.check();
  await close();
});

test("a long text is not cut within a character", async () => {
  const client = await Client.connect(server.port());
  const text = `x${"€".repeat(400)}`;
  await client.ask(`${text}\n`, "€\n");
  const conv = await until(async () => (await server.api("/conversations?q=req:€€")).conversations[0]?.conv, "it is recorded");
  const { page, watched, close } = await openConsole(server, { at: `#/conversations/${conv}` });
  const shown = await page.locator("#m1 .q pre").textContent();
  assert.match(shown ?? "", /^x€{170}$/);
  watched.check();
  await close();
});

test("charts that were drawn are not kept", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/about" });
  await page.evaluate(() => {
    const told = /** @type {any} */ (window);
    told.listening = told.asked = 0;
    const { addEventListener, removeEventListener } = AbortSignal.prototype;
    AbortSignal.prototype.addEventListener = function (/** @type {any[]} */ ...rest) {
      told.listening++;
      told.asked++;
      return Reflect.apply(addEventListener, this, rest);
    };
    AbortSignal.prototype.removeEventListener = function (/** @type {any[]} */ ...rest) {
      told.listening--;
      return Reflect.apply(removeEventListener, this, rest);
    };
  });
  await page.goto(`${server.origin}/#/numbers?step=1s`);
  const told = () => page.evaluate(() => [/** @type {any} */ (window).asked, /** @type {any} */ (window).listening]);
  await until(async () => (await told())[0] >= 12, "charts are drawn again and again");
  await until(async () => (await told())[1] <= 6, "nothing is kept of those before");
  watched.check();
  await close();
});
