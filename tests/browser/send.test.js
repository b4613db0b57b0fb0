/**
 * The Send drawer: what it sends is a real call, recorded once.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { axe, closeBrowser, openConsole, program, Server, SIZES, shoot, shots, THEMES, until } from "./support.js";

const ENDPOINTS = ["upper=tcp://127.0.0.1:0?frame=line", "upper=udp://127.0.0.1:0", "greet=tcp://127.0.0.1:0", "discard=tcp://127.0.0.1:0"];

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

/** @param {import("playwright-core").Page} page */
const drawer = (page) => page.getByRole("dialog", { name: "Send" });
/** @param {import("playwright-core").Page} page @param {string} text */
const replies = (page, text) => drawer(page).locator(".answer li", { hasText: text });

/** Opens the drawer by its key, which is there with the button. @param {import("playwright-core").Page} page */
async function openDrawer(page) {
  await page.locator("#send").waitFor();
  await page.keyboard.press("n");
}

/** Has the call wait longer for a reply than it takes on a machine that stalls. @param {import("playwright-core").Page} page */
const waitLong = (page) => drawer(page).getByLabel("Wait").fill("10 s");

/** Waits until the record has so many of a text. @param {string} q @param {number} n */
const recordedTimes = (q, n) => until(async () => {
  const found = await recorded(q);
  return found.length === n ? found : null;
}, `${n} of ${q} in the record`);

/** What the record has of a text. @param {string} q @returns {Promise<any[]>} */
async function recorded(q) {
  return (await server.api(`/exchanges?q=${encodeURIComponent(q)}`)).exchanges;
}

/** @param {import("playwright-core").Page} page @param {string} url the beginning of it */
async function chooseTo(page, url) {
  const options = await drawer(page).getByLabel("To", { exact: true }).locator("option").allTextContents();
  await drawer(page).getByLabel("To", { exact: true }).selectOption({ index: options.findIndex((text) => text.includes(url)) });
}

test("the first message is sent from the page, arrives, moves and is recorded once", async () => {
  const { page, watched, close } = await openConsole(server);
  await page.getByRole("button", { name: "Send hello now" }).click();
  await replies(page, "HELLO⏎").waitFor();
  await page.locator(".rows-body > .row", { hasText: "HELLO⏎" }).waitFor();
  await drawer(page).getByText("1 of 1").waitFor();
  const found = await recordedTimes("req:hello", 1);
  assert.equal(found[0].rep.text, "HELLO\n");
  assert.equal(found[0].role, "server", "as the server saw it");
  const link = drawer(page).getByRole("link", { name: `Open c${found[0].conv}` });
  assert.match((await link.getAttribute("href")) ?? "", new RegExp(`${found[0].conv}`));
  watched.check();
  await close();
});

test("the drawer by keyboard: n, text, Ctrl+Enter, Escape, and . sends again", async () => {
  const { page, watched, close } = await openConsole(server);
  await openDrawer(page);
  await drawer(page).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "TEXTAREA");
  await waitLong(page);
  await drawer(page).getByLabel("Request").focus();
  await page.keyboard.type("by keys, n and . are letters here");
  await page.keyboard.press("Control+Enter");
  await replies(page, "BY KEYS").waitFor();
  await page.keyboard.press("Escape");
  await drawer(page).waitFor({ state: "hidden" });
  await page.keyboard.press(".");
  await until(async () => (await recorded('"by keys"')).length === 2, "the second exchange");
  await drawer(page).waitFor();
  await replies(page, "BY KEYS").waitFor();
  assert.equal((await recorded('"by keys"')).length, 2);
  watched.check();
  await close();
});

test("a counter numbers the messages, and one conversation has them all", async () => {
  const { page, close } = await openConsole(server);
  await openDrawer(page);
  await page.keyboard.type("Straße {n}");
  await waitLong(page);
  await drawer(page).getByLabel("Times").fill("3");
  await drawer(page).getByLabel("Every").fill("30 ms");
  await drawer(page).getByLabel("Expect in a reply").fill("STRASSE 3");
  await drawer(page).getByRole("button", { name: "Send Ctrl Enter" }).click();
  await drawer(page).getByText("3 of 3, as expected").waitFor();
  assert.deepEqual(await drawer(page).locator(".answer .bytes").allTextContents(), ["STRASSE 1⏎", "STRASSE 2⏎", "STRASSE 3⏎"]);
  const found = await recordedTimes("Straße", 3);
  assert.deepEqual(found.map(({ n }) => n).sort(), [1, 2, 3]);
  assert.equal(new Set(found.map(({ conv }) => conv)).size, 1);

  await drawer(page).getByLabel("Expect in a reply").fill("not this");
  await page.keyboard.press("Control+Enter");
  await drawer(page).getByText("3 of 3, not as expected").waitFor();
  await close();
});

test("bytes are sent as hex and as escapes, and come back as they are", async () => {
  const { page, watched, close } = await openConsole(server);
  await openDrawer(page);
  await chooseTo(page, "udp://");
  await waitLong(page);
  await drawer(page).getByRole("button", { name: "Hex" }).click();
  await drawer(page).getByLabel("Request").fill("00 ff 61 62");
  await drawer(page).getByText("4 B, one datagram each").waitFor();
  await page.keyboard.press("Control+Enter");
  await replies(page, "00 ff 41 42").waitFor();
  await recordedTimes("hex:00ff6162", 1);

  await drawer(page).getByRole("button", { name: "Text" }).click();
  await drawer(page).getByLabel("Request").fill("\\x01\\xffescaped");
  await page.keyboard.press("Control+Enter");
  await replies(page, "01 ff 45 53 43").waitFor();
  await recordedTimes("hex:01ff65736361706564", 1);

  await drawer(page).getByLabel("Request").fill("a \\q mistake");
  await page.keyboard.press("Control+Enter");
  await drawer(page).getByRole("alert").filter({ hasText: "\\q m is no escape" }).waitFor();
  assert.equal((await recorded("mistake")).length, 0);
  watched.check();
  await close();
});

test("a greeting is shown without a request, and silence as no reply", async () => {
  const { page, close } = await openConsole(server);
  await openDrawer(page);
  await chooseTo(page, "greet");
  await page.keyboard.press("Control+Enter");
  await replies(page, "Thank you for connecting").waitFor();

  await chooseTo(page, "discard");
  await drawer(page).getByLabel("Request").fill("into the void");
  await drawer(page).getByLabel("Wait").fill("200 ms");
  await page.keyboard.press("Control+Enter");
  await drawer(page).getByText("0 of 1").waitFor();
  await drawer(page).locator(".answer li", { hasText: "no reply" }).waitFor();
  await close();
});

test("the command of the drawer sends the same", async () => {
  const { page, close } = await openConsole(server);
  await openDrawer(page);
  await drawer(page).getByLabel("Request").fill("it's {n} \\x41");
  await drawer(page).getByLabel("Times").fill("7");
  const command = (await drawer(page).locator("footer code").textContent()) ?? "";
  assert.match(command, /^seq 7 \| sed .* \| xargs -d '\\n' echoic connect :\d+ --frame line$/);
  const { stdout } = await promisify(execFile)("bash", ["-c", command.replace("echoic connect", `${program} connect`)], { timeout: 20_000 });
  assert.equal(stdout, [1, 2, 3, 4, 5, 6, 7].map((n) => `IT'S ${n} A\n`).join(""));

  await drawer(page).getByLabel("Request").fill("plain 'text'");
  await drawer(page).getByLabel("Times").fill("2");
  await drawer(page).getByLabel("Expect in a reply").fill("PLAIN");
  await waitLong(page);
  const expecting = (await drawer(page).locator("footer code").textContent()) ?? "";
  await promisify(execFile)("bash", ["-c", expecting.replace("echoic connect", `${program} connect`)], { timeout: 20_000 });
  await until(async () => (await recorded(`"plain 'text'"`)).length >= 1, "the message of the command in the record");
  await close();
});

test("a console that may not send has no Send button and no shortcut", async () => {
  const reader = await Server.start(["upper=tcp://127.0.0.1:0"], { args: ["--console-readonly"] });
  const { page, watched, close } = await openConsole(reader);
  await page.getByText("Read only.").waitFor();
  await page.getByText("started with --console-readonly: it sends, pauses, tags and notes nothing").waitFor();
  assert.equal(await page.getByRole("button", { name: "Send" }).count(), 0);
  assert.equal(await page.getByRole("button", { name: "Send hello now" }).count(), 0);
  await page.keyboard.press("n");
  assert.equal(await drawer(page).count(), 0);
  watched.check();
  await close();
  await reader.stop();
});

test("the drawer is usable at every width, in both themes", async () => {
  const { page, watched, close } = await openConsole(server);
  await openDrawer(page);
  await drawer(page).getByLabel("Request").fill("Straße {n}");
  await drawer(page).getByLabel("Times").fill("3");
  await drawer(page).getByLabel("Every").fill("100 ms");
  await waitLong(page);
  await drawer(page).getByLabel("Expect in a reply").fill("STRASSE");
  await page.keyboard.press("Control+Enter");
  await drawer(page).getByText("3 of 3, as expected").waitFor();
  // A new row fades: its colours are those of the theme afterwards.
  await new Promise((resolve) => setTimeout(resolve, 1500));
  for (const { width, height } of SIZES) {
    for (const theme of THEMES) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `send, ${width}, ${theme}`);
      await shoot(page, `send-${width}-${theme}`);
      const wide = await page.evaluate(() => document.querySelector(".drawer")?.scrollWidth ?? 0);
      const room = await page.evaluate(() => document.querySelector(".drawer")?.clientWidth ?? 0);
      assert.ok(wide <= room, `nothing is cut off at ${width}: ${wide} of ${room}`);
    }
  }
  const covers = await page.evaluate(() => {
    const box = (/** @type {string} */ selector) => document.querySelector(selector)?.getBoundingClientRect();
    const [over, screen] = [box(".drawer"), box(".screen")];
    return over?.top === screen?.top && over?.bottom === screen?.bottom;
  });
  assert.ok(covers, "at 390 px the drawer covers the screen");
  watched.check();
  await close();
});
