/**
 * The login with a password, at a console over TLS.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { axe, Client, closeBrowser, openPage, Server, SIZES, shoot, THEMES, until } from "./support.js";

const PASSWORD = "größer als acht";
const ENDPOINTS = ["upper=tcp://127.0.0.1:0?frame=line"];
const folder = mkdtempSync(path.join(tmpdir(), "echoic-login-"));
const [cert, key] = ["cert.pem", "key.pem"].map((name) => path.join(folder, name));

before(() => {
  const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
  execFileSync("openssl", ["req", "-x509", ...kind, "-keyout", `${key}`, "-out", `${cert}`, "-subj", "/CN=console", "-addext", names], { stdio: "ignore" });
});
after(async () => {
  await closeBrowser();
  rmSync(folder, { recursive: true, force: true });
});

/** A server with a password. @param {{port?: number, password?: string}} [options] */
async function start({ port = 0, password = PASSWORD } = {}) {
  return Server.start(ENDPOINTS, { console: `127.0.0.1:${port}?cert=${cert}&key=${key}`, env: { ECHOIC_PASSWORD: password } });
}

/** The login of a page. @param {import("playwright-core").Page} page */
function loginOf(page) {
  return {
    head: page.getByRole("heading", { name: "Log in to this console" }),
    field: page.getByLabel("Password"),
    mistake: page.getByRole("alert"),
    live: page.locator("#state", { hasText: "live" }),
  };
}

test("a wrong password is said, the right one opens the console, and the session lasts", async () => {
  const server = await start();
  const { context, page, watched, close } = await openPage(server);
  try {
    const { head, field, mistake, live } = loginOf(page);
    await head.waitFor();
    assert.match(server.url, /^https:\/\/127\.0\.0\.1:\d+\/$/, "the URL has no secret");
    assert.ok(await field.evaluate((node) => node === document.activeElement), "the field has the focus");
    assert.equal(await field.getAttribute("type"), "password");
    assert.equal(await field.getAttribute("autocomplete"), "current-password");
    assert.equal(await page.locator("form input[autocomplete=username]").count(), 1, "password managers find a user name");
    await page.keyboard.press("Escape");
    await head.waitFor();

    await page.keyboard.type("wrong password");
    await page.keyboard.press("Enter");
    await mistake.filter({ hasText: "the password is wrong" }).waitFor();
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    // What was typed is selected, so typing replaces it.
    await page.keyboard.type(PASSWORD);
    await page.keyboard.press("Enter");
    await live.waitFor();
    assert.equal(await page.locator("dialog").count(), 0);
    assert.ok(!page.url().includes("als"), page.url());

    const client = await Client.connect(server.port());
    await client.ask("over tls\n", "OVER TLS");
    await page.locator(".rows-body .row", { hasText: "OVER TLS" }).waitFor();
    client.close();

    const [cookie] = await context.cookies(`${server.origin}/api/v1/info`);
    assert.ok(cookie?.secure && cookie.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookie));
    await page.reload();
    await live.waitFor();
    assert.equal(await page.locator("dialog").count(), 0);
    assert.ok(!server.errors.includes(PASSWORD) && !JSON.stringify(server.events).includes(PASSWORD), "the password is printed");
    watched.check();
  } finally {
    await close();
    await server.stop();
  }
});

test("too many wrong passwords are told with the time to wait, and the right one waits too", async () => {
  const server = await start();
  const { page, watched, close } = await openPage(server);
  try {
    const { field, mistake, live } = loginOf(page);
    for (let n = 0; n < 10; n++) {
      await field.fill(`wrong password ${n}`);
      const answered = page.waitForResponse((response) => response.url().endsWith("/session"));
      await page.getByRole("button", { name: "Log in" }).click();
      const answer = await answered;
      assert.equal(answer.status(), 403);
      // A press while the page reads the answer does nothing; what was typed is selected once it has read it.
      await until(() => field.evaluate((node) => /** @type {HTMLInputElement} */ (node).selectionStart === 0), "the page has read the answer");
      await mistake.filter({ hasText: "the password is wrong" }).waitFor();
    }
    await field.fill(PASSWORD);
    await page.keyboard.press("Enter");
    await mistake.filter({ hasText: /too many wrong passwords: try again in \d+ s/ }).waitFor();
    assert.equal(await live.count(), 0);
    watched.check();
  } finally {
    await close();
    await server.stop();
  }
});

test("a changed password ends the session, and the page asks again", async () => {
  const server = await start();
  const { page, watched, close } = await openPage(server);
  let other = null;
  try {
    const { head, field, live } = loginOf(page);
    await field.fill(PASSWORD);
    await page.keyboard.press("Enter");
    await live.waitFor();
    // A screen whose scripts did not come asks for nothing, so that the browser would not learn to trust the certificate again.
    await page.locator(".card.endpoint").waitFor();
    await server.stop();
    other = await start({ port: Number(new URL(server.origin).port), password: "another password" });
    await head.waitFor();
    await page.getByRole("alert").filter({ hasText: "This session has ended" }).waitFor();
    await field.fill("another password");
    await page.keyboard.press("Enter");
    await live.waitFor();
    watched.check();
  } finally {
    await close();
    await (other ?? server).stop();
  }
});

for (const theme of THEMES) {
  for (const size of SIZES) {
    test(`login, ${size.width} wide, ${theme}`, async () => {
      const server = await start();
      const { page, watched, close } = await openPage(server, { viewport: size, colorScheme: theme });
      try {
        const { head, field, mistake } = loginOf(page);
        await head.waitFor();
        await shoot(page, `login-${size.width}-${theme}`);
        assert.deepEqual(await axe(page), []);
        await field.fill("wrong password");
        await page.keyboard.press("Enter");
        await mistake.filter({ hasText: "the password is wrong" }).waitFor();
        await shoot(page, `login-wrong-${size.width}-${theme}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        assert.ok(!wide, "the page scrolls sideways");
        watched.check();
      } finally {
        await close();
        await server.stop();
      }
    });
  }
}
