/**
 * The Live screen, driven by real clients of a real server.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, Client, closeBrowser, drawn, openConsole, Server, SIZES, SOON, shoot, shots, THEMES, until, visibleRows } from "./support.js";

const ENDPOINTS = ["upper=tcp://127.0.0.1:0?frame=line", "upper=udp://127.0.0.1:0", "greet=tcp://127.0.0.1:0"];

/** @type {Server} */
let server;

before(async () => {
  server = await Server.start(ENDPOINTS);
});

after(async () => {
  await server?.stop();
  await closeBrowser();
  console.log(`screenshots are in ${shots}`);
});

/** @param {import("playwright-core").Page} page @param {string} text */
const row = (page, text) => page.locator(".rows-body > .row", { hasText: text });

/** Notes what moves: dots on lanes, and calls that light. @param {import("playwright-core").Page} page */
async function noteMotion(page) {
  await page.evaluate(() => {
    const seen = new Set();
    Object.assign(window, { seen });
    /** @param {Element} node */
    const note = (node) => {
      if (node.matches(".lane .go .run")) seen.add("dot of a request");
      if (node.matches(".lane .back .run")) seen.add("dot of a reply");
      if (node.matches(".lane .keep .run")) seen.add("square of a write");
      if (node.matches(".endpoint .calls .req")) seen.add(`${node.firstChild?.textContent} lit`);
      if (node.matches(".endpoint .calls .rep")) seen.add(`${node.firstChild?.textContent} lit`);
      if (node.matches(".store .calls .act")) seen.add("store lit");
    };
    const observer = new MutationObserver((changes) => {
      for (const { target, addedNodes } of changes) {
        for (const node of [target, ...addedNodes]) if (node instanceof Element) note(node);
      }
    });
    observer.observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] });
  });
  return () => page.evaluate(() => [.../** @type {any} */ (window).seen]);
}

test("first run tells how to send, and the first message moves through the tiers", async () => {
  const { page, watched, close } = await openConsole(server);
  await page.getByText("Everything is ready. Send the first message.").waitFor();
  await page.getByText(`nc 127.0.0.1 ${server.port(0)}`).waitFor();
  assert.equal(await page.getByRole("grid").count(), 0, "an empty list is not shown");
  for (const { width, height } of SIZES) {
    for (const theme of THEMES) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `empty, ${width}, ${theme}`);
      await shoot(page, `empty-${width}-${theme}`);
    }
  }
  await page.setViewportSize(/** @type {any} */ (SIZES[0]));
  // The words may be there before the tiers, and nothing moves along lanes that are not drawn.
  await page.locator(".card.endpoint").first().waitFor({ state: "attached" });
  const seen = await noteMotion(page);

  const client = await Client.connect(server.port(0));
  await client.ask("hello\n", "HELLO\n");
  await row(page, "HELLO⏎").waitFor();
  const cells = await row(page, "HELLO⏎").getByRole("gridcell").allTextContents();
  assert.deepEqual([cells[3], cells[4], cells[6]], ["request hello⏎6 B", "reply HELLO⏎6 B", "ok"]);
  assert.equal(await page.getByText("Everything is ready").count(), 0);
  const moved = ["dot of a request", "dot of a reply", "square of a write", "recv lit", "send lit", "store lit"];
  await until(async () => {
    const now = await seen();
    return moved.every((what) => now.includes(what));
  }, `motion: ${moved.join(", ")}`);
  await page.getByRole("heading", { name: "1 connected" }).waitFor();
  client.close();
  watched.check();
  await close();
});

test("a dot leads to its conversation, and the lane to the one that spoke last", async () => {
  const { page, watched, close } = await openConsole(server);
  await page.locator(".card.endpoint").first().waitFor();
  const client = await Client.connect(server.port(0));
  await client.ask("lead me\n", "LEAD ME\n");
  await row(page, "lead me").waitFor();
  const { conv } = (await server.api("/exchanges?q=req:%22lead%20me%22")).exchanges[0];
  const lane = page.getByRole("link", { name: `Open c${conv}, which spoke last at` });
  await lane.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: `c${conv}`, exact: true }).waitFor();
  assert.equal(new URL(page.url()).hash, `#/conversations/${conv}`);
  await page.goBack();
  // A dot takes half a second: it is pressed as it appears.
  await page.evaluate(() => {
    new MutationObserver((changes, observer) => {
      const dot = changes.flatMap(({ addedNodes }) => [...addedNodes]).find((node) => node instanceof Element && node.matches(".lane .go .dot"));
      if (!(dot instanceof HTMLElement)) return;
      observer.disconnect();
      const { x, y, width, height } = dot.getBoundingClientRect();
      Object.assign(window, { under: document.elementFromPoint(x + width / 2, y + height / 2) === dot });
      dot.click();
    }).observe(document.body, { subtree: true, childList: true });
  });
  await page.getByRole("heading", { name: "1 connected" }).waitFor();
  await client.ask("lead me again\n", "LEAD ME AGAIN\n");
  await page.getByRole("heading", { name: `c${conv}`, exact: true }).waitFor();
  assert.equal(new URL(page.url()).hash, `#/conversations/${conv}`);
  assert.equal(await page.evaluate(() => /** @type {any} */ (window).under), true, "nothing lies over the dot");
  client.close();
  watched.check();
  await close();
});

test("the figures of the store add up to what was served", async () => {
  const { page, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  for (let n = 0; n < 20; n++) await client.ask(`line ${n}\n`, `LINE ${n}\n`);
  const figures = async () => {
    const cells = await page.locator(".store dl").first().locator("dd").allTextContents();
    return cells.map((cell) => Number(cell.replaceAll(",", "")));
  };
  // The store may not have taken the last of them yet.
  await until(async () => (await figures())[3] === (await server.api("/info")).store.exchanges, "served shows all exchanges");
  const [recorded = 0, waiting = 0, lost = 0, served] = await figures();
  assert.equal(recorded + waiting + lost, served);
  client.close();
  await close();
});

test("a client that resets is shown with the word of the record", async () => {
  const { page, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  await client.ask("before the reset\n", "BEFORE THE RESET\n");
  await page.locator(".peers li", { hasText: "open" }).first().waitFor();
  client.socket.resetAndDestroy();
  await page.locator(".peers li", { hasText: "peer-reset" }).waitFor();
  await close();
});

test("pause holds rows back and counts them, resume shows them", async () => {
  const { page, watched, close } = await openConsole(server);
  await page.locator(".card.endpoint").first().waitFor();
  const client = await Client.connect(server.port(0));
  await client.ask("before the pause\n", "BEFORE");
  await row(page, "before the pause").waitFor();
  // A list that is loaded has the row before its event comes, and an event that comes during the pause is counted.
  await page.getByRole("link", { name: /which spoke last at/ }).waitFor();
  await page.keyboard.press("Space");
  await page.getByText("Recording goes on").waitFor();
  const seen = await noteMotion(page);
  await client.ask("during the pause\n", "DURING");
  await page.getByText("1 exchange waits here").waitFor();
  assert.equal(await row(page, "during the pause").count(), 0);
  assert.deepEqual(await seen(), [], "nothing moves during a pause");
  await page.getByRole("button", { name: "Resume" }).first().click();
  await row(page, "during the pause").waitFor();
  assert.equal(await row(page, "during the pause").count(), 1);
  client.close();
  watched.check();
  await close();
});

test("pausing an endpoint lets clients wait, resuming serves them", async () => {
  const { page, watched, close } = await openConsole(server);
  const card = page.locator(".card.endpoint").first();
  await card.hover();
  await card.getByRole("button", { name: /^Pause endpoint/ }).click();
  await card.getByText("Paused: clients wait in the backlog.").waitFor();
  const client = await Client.connect(server.port(0));
  client.socket.write("who waits\n");
  await new Promise((resolve) => setTimeout(resolve, 400));
  assert.equal(client.received, "", "a paused endpoint answers nothing");
  await card.getByRole("button", { name: /^Resume endpoint/ }).click();
  await until(() => client.received === "WHO WAITS\n", "the reply after the resume");
  await row(page, "who waits").waitFor();
  client.close();
  watched.check();
  await close();
});

test("draining an endpoint with conversations asks first, and ends them", async () => {
  const { page, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  await client.ask("to be drained\n", "TO BE DRAINED\n");
  const card = page.locator(".card.endpoint").first();
  await until(async () => (await server.api("/endpoints")).endpoints[0].open === 1, "clients of other tests are gone");
  await until(async () => /\b1 open/.test((await card.locator(".facts").textContent()) ?? ""), "the card counts the conversation");
  await page.waitForTimeout(1100);
  let ended = false;
  client.socket.on("end", () => (ended = true));
  await card.hover();
  // The second press counts for some seconds.
  await until(async () => {
    for (const name of [/^Drain endpoint/, /^End 1 conversation/]) await card.getByRole("button", { name }).click({ timeout: 1000 }).catch(() => {});
    return until(() => ended, "its end", 2000).catch(() => false);
  }, "the conversation ends");
  await card.getByText(/Drain(ing|ed)/).waitFor();
  await card.getByRole("button", { name: /^Resume endpoint/ }).click();
  const next = await Client.connect(server.port(0));
  await next.ask("again\n", "AGAIN\n");
  client.close();
  next.close();
  await close();
});

test("explain shows the socket calls of the next conversation", async () => {
  const { page, close } = await openConsole(server);
  await page.getByRole("button", { name: "Explain the next conversation" }).click();
  await page.getByText("Explain is on.").waitFor();
  const client = await Client.connect(server.port(0));
  await client.ask("explained\n", "EXPLAINED\n");
  client.close();
  const calls = page.locator(".explained .trace li");
  await until(async () => {
    const all = await calls.allTextContents();
    return [/recv.*= 10/, /(send|write).*= 10/].every((one) => all.some((call) => one.test(call)));
  }, "the calls that read and sent 10 bytes");
  await close();
});

test("a filter keeps the list live, and a mistake tells its column", async () => {
  const { page, watched, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  await page.keyboard.press("/");
  await page.keyboard.type("needle");
  await page.keyboard.press("Enter");
  await page.getByText("Nothing matches so far.").waitFor();
  await client.ask("hay\n", "HAY\n");
  await client.ask("a needle in it\n", "A NEEDLE IN IT\n");
  await row(page, "a needle in it").waitFor();
  assert.equal(await page.locator(".rows-body > .row").count(), 1);
  assert.match(page.url(), /q=needle/);

  await page.locator("#q").fill("latt:>5ms");
  await page.keyboard.press("Enter");
  await page.locator(".err", { hasText: "Column 1" }).waitFor();
  await page.getByRole("button", { name: "Use lat:" }).click();
  assert.equal(await page.locator("#q").inputValue(), "lat:>5ms");
  await page.locator(".err").waitFor({ state: "hidden" });
  await page.locator("#q").fill("is:opne,half HAY");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Use open" }).click();
  assert.equal(await page.locator("#q").inputValue(), "is:open,half HAY");
  await page.locator(".err").waitFor({ state: "hidden" });

  await page.locator("#q").fill("");
  await page.locator("#q").pressSequentially("proto:t");
  await page.getByRole("option", { name: /^tcp/ }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#q").inputValue(), "proto:tcp ");
  client.close();
  watched.check();
  await close();
});

test("typing keeps its text and focus while messages come", async () => {
  const { page, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  await page.locator("#q").click();
  let typed = "";
  for (const letter of "slowly typed") {
    await page.keyboard.type(letter);
    typed += letter;
    await client.ask(`noise ${typed.length}\n`, "NOISE");
    assert.equal(await page.locator("#q").inputValue(), typed);
  }
  assert.equal(await page.evaluate(() => document.activeElement?.id), "q");
  client.close();
  await close();
});

test("the reader's place stays while rows come, and all rows can be reached", async () => {
  const { page, watched, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  for (let n = 0; n < 12; n++) await client.ask(Array.from({ length: 50 }, (_, i) => `many ${n}-${i}\n`).join(""), `MANY ${n}-49\n`);
  await row(page, "many 11-49").waitFor();
  // The tiers above the rows grow with what is known of clients and endpoints: they would move the rows.
  await page.locator(".peers .so-far").first().waitFor();
  await page.locator(".facts .window").first().waitFor();
  await page.locator("#main").evaluate((main) => main.scrollBy(0, 3000));
  await drawn(page);
  await until(async () => ((await visibleRows(page)).at(-1)?.y ?? 0) >= 860, "a view full of rows after scrolling");
  const place = await visibleRows(page);
  for (let n = 0; n < 7; n++) await client.ask(`newer ${n}\n`, `NEWER ${n}\n`);
  await page.getByRole("button", { name: /7 new/ }).waitFor();
  assert.deepEqual(await visibleRows(page), place, "rows drift");
  await page.keyboard.press("Shift+G");
  await row(page, "newer 6").waitFor();

  const ids = new Set();
  const total = (await server.api("/info")).store.exchanges;
  // Rows just above the view are drawn too.
  await until(async () => (await visibleRows(page))[0]?.key === total, "the newest row is in view");
  await until(async () => {
    const rows = await visibleRows(page);
    // Of a burst the page gets a part; the rest stands behind a marker.
    if (rows.some(({ key }) => key < 0)) {
      const load = page.getByRole("button", { name: "Load them" }).first();
      await load.click({ timeout: 1000 }).catch(() => {});
      return false;
    }
    // Until the rows of this place are loaded and drawn.
    if ((rows.at(-1)?.y ?? 0) < 860 && rows.at(-1)?.key !== 1) return false;
    for (const { key } of rows) ids.add(key);
    await page.locator("#main").evaluate((main) => {
      main.scrollBy(0, 400);
      return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    });
    return ids.has(1);
  }, "the first exchange", 3 * SOON);
  const missing = Array.from({ length: total }, (_, i) => i + 1).filter((id) => !ids.has(id));
  assert.deepEqual([missing, ids.size], [[], total], "every exchange once");
  client.close();
  watched.check();
  await close();
});

test("seven tabs are live at once, over one connection", async () => {
  const { page, context, close } = await openConsole(server);
  const tabs = [page];
  for (let n = 0; n < 7; n++) {
    const tab = await context.newPage();
    await tab.goto(`${server.origin}/#/live`);
    tabs.push(tab);
  }
  for (const tab of tabs) await tab.locator("#state", { hasText: "live" }).waitFor();
  const client = await Client.connect(server.port(0));
  await client.ask("to all tabs\n", "TO ALL TABS\n");
  for (const tab of tabs) await row(tab, "to all tabs").waitFor();
  client.close();
  await close();
});

test("hostile bytes are shown, and do nothing", async () => {
  const { page, watched, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  const hostile = ["<img src=x onerror=alert(1)>", "<script>alert(2)</script>", "javascript:alert(3)", "\x1b]0;owned\x07", "\u202egnp.exe", "{{7*7}}"];
  for (const text of hostile) await client.ask(`${text}\n`, "\n");
  await row(page, "<img src=x onerror=alert(1)>⏎").waitFor();
  await row(page, "\\x1b]0;owned\\x07⏎").waitFor();
  await row(page, "\\u202egnp.exe").waitFor();
  assert.equal(await page.locator(".rows-body img, .rows-body script").count(), 0);
  client.close();
  watched.check();
  await close();
});

test("without its token the page shows nothing of the record, and asks for it", async () => {
  const { page, context, close } = await openConsole(server);
  await context.clearCookies();
  await page.reload();
  await page.getByText("This console needs its token").waitFor();
  assert.equal(await page.locator(".rows-body > .row").count(), 0);
  await page.getByLabel("Token or address").fill("wrongwrongwrongwrong");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "the token is wrong" }).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.getByLabel("Token or address").fill(server.url);
  await page.keyboard.press("Enter");
  await page.locator("#state", { hasText: "live" }).waitFor();
  assert.ok(!page.url().includes("t="), "the token is not left in the address");
  await close();
});

test("the whole screen works by keyboard", async () => {
  const { page, watched, close } = await openConsole(server);
  const client = await Client.connect(server.port(0));
  await client.ask("by keyboard\n", "BY KEYBOARD\n");
  await row(page, "by keyboard").waitFor();
  // The rows may be there before the tiers, which have stops of their own.
  await page.locator(".card.endpoint").first().waitFor();
  const focused = () => page.evaluate(() => {
    const node = /** @type {HTMLElement} */ (document.activeElement);
    return node.getAttribute("aria-label") ?? node.textContent?.trim() ?? "";
  });
  /** @type {string[]} */
  const tour = [];
  for (let n = 0; n < 40 && tour.at(-1) !== "Exchanges"; n++) {
    await page.keyboard.press("Tab");
    tour.push(await focused());
    const ring = await page.evaluate(() => {
      const node = /** @type {HTMLElement} */ (document.activeElement);
      const style = getComputedStyle(node.closest(".filter") ?? node);
      return style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) >= 2;
    });
    assert.ok(ring, `no focus ring on ${tour.at(-1)}`);
  }
  const order = ["Skip to content", "Live", "Filter", "Pause", "Copy as command", "Pause endpoint", "Explain", "Exchanges"];
  let from = -1;
  for (const stop of order) {
    const at = tour.findIndex((words, n) => n > from && words.startsWith(stop));
    assert.ok(at > from, `${stop} is not reached in order: ${tour.join(", ")}`);
    from = at;
  }
  await page.keyboard.press("ArrowDown");
  const current = () => page.locator(".rows-body > .focus").getAttribute("data-key");
  const first = await until(current, "a current row");
  await page.keyboard.press("j");
  await until(async () => (await current()) !== first, "the next row");
  await page.keyboard.press("k");
  await until(async () => (await current()) === first, "the row before");
  const grid = page.getByRole("grid", { name: "Exchanges" });
  assert.equal(await grid.getAttribute("aria-activedescendant"), `exchange-${first}`);
  assert.ok(Number(await grid.getAttribute("aria-rowcount")) > 1);

  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys and settings" }).waitFor();
  assert.deepEqual(await axe(page), [], "help");
  await page.getByLabel("Single-key shortcuts").uncheck();
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  assert.notEqual(await page.evaluate(() => document.activeElement?.id), "q", "single keys are off");
  client.close();
  watched.check();
  await close();
});

test("axe finds nothing at any width in either theme", async () => {
  const { page, close } = await openConsole(server);
  const clients = [await Client.connect(server.port(0)), await Client.connect(server.port(0))];
  for (const [n, client] of clients.entries()) await client.ask(`for the picture ${n}: Straße, café\n`, "PICTURE");
  await (await Client.connect(server.port(2))).socket.end();
  await row(page, "for the picture 1").waitFor();
  for (const { width, height } of SIZES) {
    for (const theme of THEMES) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: theme });
      // Rows that have just come fade: colours are judged at rest.
      await page.waitForTimeout(1500);
      assert.deepEqual(await axe(page), [], `live, ${width}, ${theme}`);
      await shoot(page, `live-${width}-${theme}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.ok(!wide, `the page scrolls sideways at ${width}`);
    }
  }
  await page.evaluate(() => document.body.append(document.createElement("img"), document.createElement("input")));
  assert.ok((await axe(page)).length > 0, "axe finds a planted violation");
  for (const client of clients) client.close();
  await close();
});

test("with reduced motion no dot travels, the figures count on", async () => {
  const { page, close } = await openConsole(server, { reducedMotion: "reduce" });
  const seen = await noteMotion(page);
  const client = await Client.connect(server.port(0));
  await client.ask("without motion\n", "WITHOUT MOTION\n");
  await row(page, "without motion").waitFor();
  assert.ok(!(await seen()).some((/** @type {string} */ what) => what.startsWith("dot")));
  client.close();
  await close();
});

test("the page resumes after the server was killed, without a lost or doubled row", async () => {
  const own = await Server.start(["upper=tcp://127.0.0.1:0?frame=line"]);
  const { page, watched, close } = await openConsole(own);
  const client = await Client.connect(own.port());
  for (let n = 0; n < 5; n++) await client.ask(`before ${n}\n`, `BEFORE ${n}\n`);
  await row(page, "before 4").waitFor();
  await until(async () => (await own.api("/info")).store.exchanges === 5, "all are recorded");
  const seen = await noteMotion(page);
  const [port, address] = [own.port(), new URL(own.origin).host];
  own.process.kill("SIGKILL");
  await own.ended;
  await page.getByText("Not connected since").waitFor();
  // The flash of a new row takes its colours from the theme it began in.
  await page.evaluate(() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished)));
  for (const theme of THEMES) {
    await page.emulateMedia({ colorScheme: theme });
    assert.deepEqual(await axe(page), [], `not connected, ${theme}`);
    await shoot(page, `off-1440-${theme}`);
  }
  assert.ok((await page.locator(".rows-body > .row").count()) >= 5, "what was seen stays");
  await new Promise((resolve) => setTimeout(resolve, 700));
  await page.evaluate(() => /** @type {any} */ (window).seen.clear());
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual(await seen(), [], "with the feed stopped nothing moves");

  const again = await Server.start([`upper=tcp://127.0.0.1:${port}?frame=line`], { folder: own.folder, console: address });
  const next = await Client.connect(again.port());
  for (let n = 0; n < 5; n++) await next.ask(`after ${n}\n`, `AFTER ${n}\n`);
  await row(page, "after 4").waitFor();
  await page.getByText("Not connected since").waitFor({ state: "hidden" });
  const rows = await page.locator(".rows-body > .row .m-req .bytes").allTextContents();
  const all = [...Array(5).keys()].flatMap((n) => [`before ${n}⏎`, `after ${n}⏎`]).sort();
  assert.deepEqual(rows.sort(), all, "each row once");
  client.close();
  next.close();
  watched.check();
  await close();
  again.ownFolder = true;
  await again.stop();
});

test("an endpoint that served clients before the page was opened says no client now", async () => {
  const own = await Server.start(["upper=tcp://127.0.0.1:0?frame=line"]);
  const client = await Client.connect(own.port());
  await client.ask("before the page\n", "BEFORE THE PAGE\n");
  client.socket.end();
  await until(async () => (await own.api("/conversations?q=is:closed")).conversations.length === 1, "it has ended");
  const { page, watched, close } = await openConsole(own);
  await page.locator(".endpoint").getByText("1 in all").waitFor();
  await page.locator(".clients").getByText("No client now.").waitFor();
  assert.equal(await page.getByText("No client yet.").count(), 0);
  watched.check();
  await close();
  await own.stop();
});

test("a stop says goodbye", async () => {
  const own = await Server.start(["upper=tcp://127.0.0.1:0"]);
  const { page, close } = await openConsole(own);
  await own.stop();
  await page.getByText("echoic stopped at").waitFor({ timeout: SOON });
  await close();
});

test("the filter language knows every key and value that completion proposes", async () => {
  const { proposals } = await import("../../crates/echoic-console/web/js/completion.js");
  const values = { req: "x", rep: "x", any: "x", hex: "00", peer: "127.0.0.1", port: "5000", ep: "tcp:5000", svc: "upper", after: "10m", before: "10m",
    conv: "1", id: "1", n: "1", server: "x", tag: "x", note: "x" };
  const keys = proposals("", 0).map(({ text }) => text);
  assert.ok(keys.length > 20);
  for (const key of keys) {
    const name = key.slice(0, -1);
    const some = /** @type {Record<string, string>} */ (values)[name];
    const words = some ? [some] : proposals(key, key.length).map(({ text }) => text);
    assert.ok(words.length > 0, `no value for ${key}`);
    for (const word of words) await server.api(`/exchanges?limit=1&q=${encodeURIComponent(key + word)}`);
  }
});
