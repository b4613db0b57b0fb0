/**
 * Conversations over TLS: what the handshake agreed on is shown, and a mark tells them apart in lists. With real clients.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import tls from "node:tls";
import { axe, Client, closeBrowser, openConsole, Server, SIZES, shoot, THEMES, until } from "./support.js";

/** @typedef {import("playwright-core").Page} Page */

/** A subject that would be markup, and would turn the text around. */
const SUBJECT = "/O=Example/CN=<img src=x onerror=alert(1)>\u202e";

/** @type {Server} */
let server;
let folder = "";
/** Conversations: with all that a handshake can agree on, by openssl with TLS 1.2, that failed, and without TLS. */
const conv = { full: 0, old: 0, failed: 0, plain: 0 };

/** @param {string} name */
const file = (name) => path.join(folder, name);
/** @param {string[]} args */
const openssl = (...args) => execFileSync("openssl", args, { stdio: ["ignore", "pipe", "pipe"] });

/** @param {string} q @returns {Promise<number>} the newest conversation that a filter selects */
async function find(q) {
  const found = async () => (await server.api(`/conversations?q=${encodeURIComponent(q)}`)).conversations[0]?.conv;
  return until(found, `a conversation for ${q}`);
}

before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "echoic-browser-"));
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", file("issuer-key.pem"), "-out", file("issuer.pem"), "-subj", "/CN=Issuer of clients", "-days", "2");
  openssl("req", "-new", ...key, "-utf8", "-keyout", file("client-key.pem"), "-out", file("client.csr"), "-subj", SUBJECT);
  writeFileSync(file("client.ext"), "extendedKeyUsage=clientAuth\n");
  openssl("x509", "-req", "-in", file("client.csr"), "-CA", file("issuer.pem"), "-CAkey", file("issuer-key.pem"), "-CAcreateserial", "-days", "2", "-extfile", file("client.ext"), "-out", file("client.pem"));
  server = await Server.start([
    `upper=tls://127.0.0.1:0?frame=line&client-ca=${encodeURIComponent(file("issuer.pem"))}&alpn=http/1.1`,
    "upper=tls://127.0.0.1:0?frame=line",
    "upper=tcp://127.0.0.1:0?frame=line",
  ], { folder });
  const ca = readFileSync(file("echoic.db-tls/ca.pem"));
  const client = tls.connect({ port: server.port(0), host: "127.0.0.1", servername: "localhost", ca, ALPNProtocols: ["http/1.1"], minVersion: "TLSv1.3",
    cert: readFileSync(file("client.pem")), key: readFileSync(file("client-key.pem")) });
  let received = "";
  client.on("data", (data) => (received += data));
  client.write("with all\n");
  await until(() => received === "WITH ALL\n", "the reply over TLS 1.3");
  client.end();
  conv.full = await find('req:"with all" is:closed');

  const old = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${server.port(1)}`, "-tls1_2", "-CAfile", file("echoic.db-tls/ca.pem"), "-quiet", "-noservername"], { stdio: ["pipe", "pipe", "ignore"] });
  let answer = "";
  old.stdout.on("data", (data) => (answer += data));
  old.stdin.write("by openssl\n");
  await until(() => answer.includes("BY OPENSSL"), "the reply over TLS 1.2");
  old.kill();
  conv.old = await find('req:"by openssl" is:closed');

  const wrong = net.connect({ port: server.port(1), host: "127.0.0.1" });
  wrong.on("error", () => {});
  wrong.write("this is no handshake\n");
  conv.failed = await find("end:error");
  wrong.destroy();
  const plain = await Client.connect(server.port(2));
  await plain.ask("without\n", "WITHOUT\n");
  plain.socket.end();
  conv.plain = await find("req:without is:closed");
});

after(async () => {
  await server?.stop();
  await closeBrowser();
  rmSync(folder, { recursive: true, force: true });
});

/** Names and values beside the messages. @param {Page} page */
const facts = (page) => page.getByRole("region", { name: "TLS" }).evaluate((section) => Object.fromEntries([...section.querySelectorAll("dt")].map((dt) => [dt.textContent, dt.nextElementSibling?.textContent])));

test("a conversation tells what its handshake agreed on", async () => {
  const { page, watched, close } = await openConsole(server, { at: `#/conversations/${conv.full}` });
  const line = page.locator(".talk .ev", { hasText: "TLS 1.3" });
  await line.waitFor();
  const recorded = (await server.api(`/conversations/${conv.full}`)).tls;
  const { fingerprint256 } = new X509Certificate(readFileSync(file("client.pem")));
  const subject = recorded.client.subject.replace("\u202e", "\\u202e");
  assert.match(subject, /<img src=x onerror=alert\(1\)>\\u202e/);
  assert.deepEqual(await facts(page), {
    version: "1.3", "cipher suite": recorded.cipher, "server name (SNI)": "localhost", "protocol (ALPN)": "http/1.1",
    "client certificate": subject, "its SHA-256": fingerprint256.replaceAll(":", "").toLowerCase(),
  });
  const words = (await line.textContent()) ?? "";
  for (const part of [recorded.cipher, "asked for localhost (SNI)", "http/1.1 (ALPN)", `client certificate ${subject}`]) assert.ok(words.includes(part), `${part} in ${words}`);
  assert.equal(await page.locator("#main img").count(), 0, "a subject is no markup");
  watched.check();
  await close();
});

test("what a handshake did not agree on is not shown", async () => {
  const { page, watched, close } = await openConsole(server, { at: `#/conversations/${conv.old}` });
  await page.locator(".talk .ev", { hasText: "TLS 1.2" }).waitFor();
  assert.deepEqual(Object.keys(await facts(page)), ["version", "cipher suite"]);
  await page.goto(`${server.origin}/#/conversations/${conv.plain}`);
  await page.locator(".pair .q pre", { hasText: "without" }).waitFor();
  assert.equal(await page.getByRole("region", { name: "TLS" }).count(), 0);
  assert.equal(await page.locator(".talk").getByText("TLS").count(), 0);
  watched.check();
  await close();
});

test("a handshake that failed tells why", async () => {
  const { page, watched, close } = await openConsole(server, { at: `#/conversations/${conv.failed}` });
  const { failure } = (await server.api(`/conversations/${conv.failed}`)).tls;
  assert.ok(failure.length > 5, failure);
  await page.locator(".talk .ev.bad", { hasText: "TLS handshake failed" }).getByText(failure).waitFor();
  assert.deepEqual(await facts(page), { failure });
  watched.check();
  await close();
});

test("a mark in the lists tells conversations over TLS, with words for who does not see it", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/conversations" });
  await page.locator(`#conversation-${conv.plain}`).waitFor();
  const marks = () => page.locator(".rows-body > .row").evaluateAll((rows) => Object.fromEntries(rows.map((row) => {
    const mark = /** @type {HTMLElement | null} */ (row.querySelector(".tls"));
    return [/** @type {HTMLElement} */ (row).dataset.key, mark?.hidden ? null : [mark?.textContent?.trim(), mark?.title.replace(/: .*/, ": …")]];
  })));
  assert.deepEqual(await marks(), {
    [conv.full]: ["TLS 1.3", "TLS 1.3: …"], [conv.old]: ["TLS 1.2", "TLS 1.2: …"],
    [conv.failed]: ["TLS handshake failed", "TLS handshake failed: …"], [conv.plain]: null,
  });
  await page.goto(`${server.origin}/#/live`);
  await page.locator(".live .rows-body > .row", { hasText: "WITHOUT" }).waitFor();
  assert.deepEqual(Object.values(await marks()), [["TLS 1.3", "TLS 1.3: …"], ["TLS 1.2", "TLS 1.2: …"], null]);
  watched.check();
  await close();
});

test("TLS and bytes so far are accessible, and look as they should at each width in both themes", async () => {
  const open = await Client.connect(server.port(2));
  await open.ask("still open\n", "STILL OPEN\n");
  const { page, watched, close } = await openConsole(server);
  /** @type {[string, string, string][]} */
  const screens = [["live", "#/live", ".tls:not([hidden])"], ["list", "#/conversations", ".convs .tls:not([hidden])"], ["conversation", `#/conversations/${conv.full}`, ".ev"]];
  for (const [name, address, there] of screens) {
    await page.goto(`${server.origin}/${address}`);
    await page.locator(`#main ${there}`).first().waitFor();
    if (name === "live") await page.locator(".peers .so-far").waitFor();
    for (const { width, height } of SIZES) {
      for (const theme of THEMES) {
        await page.setViewportSize({ width, height });
        await page.emulateMedia({ colorScheme: theme });
        assert.deepEqual(await axe(page), [], `${name}, ${width}, ${theme}`);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, `nothing is cut off at ${width}`);
        await shoot(page, `tls-${name}-${width}-${theme}`);
      }
    }
  }
  open.close();
  watched.check();
  await close();
});
