/**
 * The Conversation screen: read to the byte, copied, labelled and acted on, with a real server.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { axe, Client, closeBrowser, openConsole, program, Server, SIZES, shoot, THEMES, until } from "./support.js";

/** @typedef {import("playwright-core").Page} Page */

const BINARY = Buffer.from([0, 0xff, 0x1b, 0, 0, 4, 0xd2, 0x65, 0x1f, 0x2e, 0x40, 0x63, 0xc3, 0x28, 0xfe, 10]);
const HOSTILE = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "\"><svg onload=alert(1)>",
  "\x1b[31m\u202egnp.exe",
  "javascript:alert(1)",
  "{{constructor.constructor('alert(1)')()}}",
  "</pre><iframe src=//example.com>",
  "&lt;b&gt;",
];

/** @type {Server} */
let server;
/** Id of the conversation that most tests read. */
let id = 0;

/** @param {string} q @returns {Promise<number>} the newest conversation that a filter selects */
async function find(q) {
  const found = async () => (await server.api(`/conversations?q=${encodeURIComponent(q)}`)).conversations[0]?.conv;
  return until(found, `a conversation for ${q}`);
}

/** A client whose second message came in two reads, if the machine did not stall between them; sets `id`. */
async function twoReads() {
  const client = await Client.connect(server.port(0));
  const own = `:${client.socket.localPort}`;
  await client.ask("hello reader\n", "HELLO READER\n");
  client.socket.write("Stra");
  await new Promise((resolve) => setTimeout(resolve, 100));
  await client.ask("ße\n", "STRASSE\n");
  const { conv } = await until(async () => (await server.api("/conversations?q=is:open")).conversations.find((/** @type {any} */ { peer }) => peer.endsWith(own)), "it is recorded");
  const second = await until(async () => (await server.api(`/conversations/${conv}/messages?limit=2`)).exchanges[1], "both are recorded");
  id = conv;
  if (second.req.reads === 2) return client;
  client.close();
  return null;
}

/** Presses a button that asks for a second press for some seconds, again if they were over. @param {Page} page @param {string} name @param {() => boolean} done */
async function pressTwice(page, name, done) {
  await until(async () => {
    for (const label of [name, `${name}?`]) await page.getByRole("button", { name: label, exact: true }).click({ timeout: 1000 }).catch(() => {});
    return until(done, name, 2000).catch(() => false);
  }, `${name} has worked`);
}

before(async () => {
  server = await Server.start(["upper=tcp://127.0.0.1:0?frame=line", "echo=tcp://127.0.0.1:0?frame=u16be", "greet=tcp://127.0.0.1:0"]);
  const client = await until(twoReads, "a message that came in two reads");
  client.socket.write(BINARY);
  await until(() => client.received.includes(" .@C".slice(1)) || client.received.length > 15, "the binary reply");
  await client.ask(`${"long ".repeat(40_000)}\n`, "\n");
  for (const payload of HOSTILE) await client.ask(`${payload}\n`, "\n");
  client.socket.end();
  await until(async () => (await server.api(`/conversations/${id}`)).reason === "peer-closed", "it has ended");
});

after(async () => {
  await server?.stop();
  await closeBrowser();
});

/** @param {string} [query] @param {number} [conv] */
const at = (query = "", conv = id) => `#/conversations/${conv}${query}`;
/** @param {Page} page @param {number} n */
const pair = (page, n) => page.locator(`#m${n}`);
/** What was copied. @param {Page} page @returns {Promise<string>} */
const clipboard = (page) => page.evaluate(() => navigator.clipboard.readText());
/** Value of a line of the inspector. @param {Page} page @param {string} name */
const inspected = async (page, name) => page.locator(".side dt", { hasText: new RegExp(`^${name}$`) }).locator("xpath=following-sibling::dd[1]").textContent();

test("request beside reply, with reads, latency, and the end in words", async () => {
  const { page, watched, close } = await openConsole(server, { at: at() });
  await pair(page, 1).waitFor();
  assert.equal(await pair(page, 1).locator(".q pre").textContent(), "hello reader⏎");
  assert.equal(await pair(page, 1).locator(".a pre").textContent(), "HELLO READER⏎");
  const [request, reply] = [await pair(page, 1).locator(".q").boundingBox(), await pair(page, 1).locator(".a").boundingBox()];
  assert.ok(request && reply && request.y === reply.y && request.x + request.width < reply.x, "side by side");
  await pair(page, 2).getByText("2 reads").waitFor();
  const { exchanges } = await server.api(`/conversations/${id}`);
  await page.getByText(`${exchanges} exchanges, ${2 * exchanges} turns;`).waitFor();
  await page.locator(".ev", { hasText: "peer-closed" }).getByText("ended its stream (FIN), everything was answered").waitFor();
  watched.check();
  await close();
});

test("hostile bytes are visible as text, and do nothing", async () => {
  const { page, watched, close } = await openConsole(server, { at: at() });
  await pair(page, 5).waitFor();
  for (const mode of ["Text", "Hex", "Both", "Escaped", "Text"]) await page.getByRole("button", { name: mode, exact: true }).click();
  for (const [index, payload] of HOSTILE.entries()) {
    const shown = (await pair(page, 5 + index).locator(".q pre").textContent()) ?? "";
    const expected = payload.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e");
    assert.equal(shown, `${expected}⏎`);
  }
  assert.equal(await page.locator(".talk :is(script, img, iframe, object)").count(), 0);
  watched.check();
  await close();
});

test("a binary message opens in hex, and the inspector tells what its bytes are", async () => {
  const { page, watched, close } = await openConsole(server, { at: at("?at=3") });
  await page.locator("#m3.at").waitFor();
  const hex = pair(page, 3).locator(".q pre.hex");
  assert.match((await hex.textContent()) ?? "", /^0000 {2}00 ff 1b 00 00 04 d2 65/);
  await page.keyboard.press("Enter");
  for (const key of ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"]) await page.keyboard.press(key);
  // The first key places the cursor on the first byte.
  assert.equal(await inspected(page, "where"), "#3 request, 3 to 6");
  assert.equal(await inspected(page, "hex"), "00 00 04 d2");
  assert.equal(await inspected(page, "u32 BE"), "1,234");
  assert.equal(await inspected(page, "u32 LE"), "3,523,477,504");
  assert.equal(await inspected(page, "u64 BE"), BINARY.readBigUInt64BE(3).toLocaleString("en"));
  assert.equal(await inspected(page, "IPv4"), "0.0.4.210");
  assert.equal(await inspected(page, "Unix time BE"), "1970-01-01 00:20:34Z");
  const box = await hex.boundingBox();
  assert.ok(box);
  // A click on a byte: the line of the text 0008, its first pair of digits.
  await page.mouse.click(box.x + 8 + 7.23 * 6.5, box.y + 6 + 18 * 1.5);
  await until(async () => (await inspected(page, "where")) === "#3 request, 8", "the byte under the cursor");
  assert.equal(await inspected(page, "u8"), "31");
  watched.check();
  await close();
});

test("bytes are shown as text, hex, both and escaped, by button and by key", async () => {
  const { page, watched, close } = await openConsole(server, { at: at() });
  const pre = pair(page, 2).locator(".q pre");
  await pre.waitFor();
  await page.keyboard.press("h");
  await until(async () => (await pre.textContent())?.startsWith("0000  53 74 72 61 c3 9f 65 0a"), "hex");
  await page.getByRole("button", { name: "Both", exact: true }).click();
  await until(async () => (await pre.count()) === 2, "both");
  await page.getByRole("button", { name: "Escaped", exact: true }).click();
  await until(async () => (await pre.textContent()) === "Straße\\n", "escaped");
  assert.match(page.url(), /bytes=escaped/);
  await page.getByRole("button", { name: "Text", exact: true }).click();
  await page.keyboard.press("w");
  await until(async () => (await pair(page, 1).locator(".q pre").textContent()) === "hello·reader⏎", "spaces");
  await page.keyboard.press("w");
  const time = pair(page, 2).locator("time span");
  assert.match((await time.textContent()) ?? "", /^\+\d+\.\d{3} s$/);
  await page.getByRole("button", { name: "Clock", exact: true }).click();
  assert.match((await time.textContent()) ?? "", /^\d\d:\d\d:\d\d\.\d{3}$/);
  await page.getByRole("button", { name: "Since the line before" }).click();
  const { exchanges } = await server.api(`/conversations/${id}/messages?limit=2`);
  const delta = (exchanges[1].t_us - exchanges[0].t_us) / 1e6;
  // Not by toFixed: it rounds some halves the other way.
  assert.equal(await time.textContent(), `+${delta.toLocaleString("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 })} s`);
  watched.check();
  await close();
});

test("a long message shows its beginning, then all of it, and can be downloaded", async () => {
  const { page, watched, close } = await openConsole(server, { at: at("?at=4"), acceptDownloads: true });
  const box = pair(page, 4).locator(".q");
  await box.getByText(/^512 B of 195 KiB shown/).waitFor();
  const length = async () => ((await box.locator("pre").textContent()) ?? "").length;
  for (let before = await length(); before < 200_001; before = await length()) {
    await box.getByRole("button", { name: before < 1000 ? /^Show 64.0 KiB more/ : /^Show/ }).click();
    await until(async () => (await length()) > before, "more bytes");
  }
  assert.equal(await length(), 200_001);
  const reply = pair(page, 4).locator(".a");
  const download = page.waitForEvent("download");
  await reply.getByRole("link", { name: "Download reply 4" }).click();
  assert.equal(readFileSync(await (await download).path(), "utf8"), `${"LONG ".repeat(40_000)}\n`);
  watched.check();
  await close();
});

test("a message is copied in the forms of other tools, and they give its bytes back", async () => {
  const { page, watched, close } = await openConsole(server, { at: at("?at=3"), permissions: ["clipboard-read", "clipboard-write"] });
  await page.locator("#m3.at").waitFor();
  // The button says so for a moment only: it is noted when it does.
  await page.evaluate(() => {
    const acts = /** @type {Element} */ (document.querySelector(".acts"));
    new MutationObserver(() => {
      if (/Copied/.test(acts.textContent ?? "")) Object.assign(window, { copied: true });
    }).observe(acts, { subtree: true, childList: true, characterData: true });
  });
  /** @param {string} form @param {string} [n] */
  const copy = async (form, n = "3") => {
    await page.evaluate(() => navigator.clipboard.writeText("not copied"));
    await page.keyboard.press("c");
    await page.getByRole("menuitemradio", { name: `Request #${n}` }).waitFor();
    await page.getByRole("menuitem", { name: form, exact: true }).click();
    // The button may still tell of the copy before.
    await until(async () => (await clipboard(page)) !== "not copied", `the ${form} is copied`);
    return clipboard(page);
  };
  assert.equal(await copy("Hex"), BINARY.toString("hex").replace(/(..)(?=.)/g, "$1 "));
  await until(() => page.evaluate(() => /** @type {any} */ (window).copied), "the button says that it has copied");
  assert.match(await copy("Hex dump"), /^00000000 {2}00 ff 1b 00 00 04 d2 65 {2}1f 2e 40 63 c3 28 fe 0a {2}\|.......e..@c.\(..\|\n00000010$/);
  const python = await copy("Python bytes");
  assert.equal(execFileSync("python3", ["-c", `print((${python}).hex())`], { encoding: "utf8" }).trim(), BINARY.toString("hex"));
  assert.equal(await copy("Rust bytes"), python);
  assert.match(await copy("C array"), /^static const unsigned char message\[16\] = \{\n {4}0x00, 0xff, 0x1b,/);
  const shell = await copy("Shell: printf | nc");
  assert.ok(shell.endsWith(` | nc 127.0.0.1 ${server.port(0)}`));
  assert.deepEqual(execFileSync("sh", ["-c", shell.slice(0, shell.lastIndexOf(" | nc"))]), BINARY);
  const command = await copy("echoic command");
  assert.ok(command.endsWith(` | echoic connect 127.0.0.1:${server.port(0)}`));
  const socket = await copy("Python with a socket");
  const answer = execFileSync("python3", ["-c", socket], { encoding: "utf8" }).trim();
  assert.match(answer, /^b'\\x00\\xff\\x1b\\x00\\x00\\x04\\xd2E/, "the copied program talks to the server");
  await page.keyboard.press("]");
  await page.locator("#m4.at").waitFor();
  await page.keyboard.press("c");
  await page.getByRole("menuitemradio", { name: "Reply #4" }).click();
  await page.getByRole("menuitem", { name: "Text", exact: true }).click();
  await until(async () => (await clipboard(page)) === `${"LONG ".repeat(40_000)}\n`, "all of a long reply");
  watched.check();
  await close();
});

test("the conversation is exported, tagged and noted", async () => {
  const { page, watched, close } = await openConsole(server, { at: at(), acceptDownloads: true });
  await pair(page, 1).waitFor();
  await page.keyboard.press("e");
  let download = page.waitForEvent("download");
  await page.getByRole("menuitem", { name: "CSV" }).click();
  assert.match(readFileSync(await (await download).path(), "utf8").split("\n")[1] ?? "", /hello reader/);
  await page.keyboard.press("e");
  download = page.waitForEvent("download");
  await page.getByRole("menuitem", { name: "All bytes received" }).click();
  assert.ok(readFileSync(await (await download).path()).subarray(0, 13).equals(Buffer.from("hello reader\n")));
  await page.keyboard.press("t");
  await page.getByLabel("New tags").fill("first second");
  await page.keyboard.press("Enter");
  await page.locator(".title .tag", { hasText: "second" }).waitFor();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.keyboard.press("t");
  await page.getByRole("button", { name: "Remove tag first" }).click();
  await page.getByRole("button", { name: "Save" }).click();
  await until(async () => (await page.locator(".title .tag").allTextContents()).join() === "second", "one tag left");
  await page.getByRole("button", { name: "Write a note" }).click();
  await page.getByRole("textbox", { name: "Note" }).fill("<b>wrong</b> case");
  await page.keyboard.press("Control+Enter");
  await page.locator(".note-text", { hasText: "<b>wrong</b> case" }).waitFor();
  const recorded = await server.api(`/conversations/${id}`);
  assert.deepEqual([recorded.tags, recorded.note], [["second"], "<b>wrong</b> case"]);
  watched.check();
  await close();
});

test("a filter inside the conversation shows the messages that match, and is in the address", async () => {
  const { page, watched, close } = await openConsole(server, { at: at() });
  await pair(page, 1).waitFor();
  await page.keyboard.press("f");
  await page.keyboard.type("req:alert");
  await page.keyboard.press("Enter");
  const { exchanges } = await server.api(`/conversations/${id}/messages?q=req:alert`);
  const { total } = await server.api(`/conversations/${id}/messages?limit=1`);
  await page.getByText(`${exchanges.length} of ${total}`).waitFor();
  assert.equal(await page.locator(".pair").count(), exchanges.length);
  assert.match(page.url(), /find=req%3Aalert/);
  await page.locator("#find").fill("latt:1");
  await page.keyboard.press("Enter");
  await page.locator(".find").getByText(/Column 1/).waitFor();
  await page.locator("#find").fill("req:not-there");
  await page.keyboard.press("Enter");
  await page.getByText("No message of this conversation matches.").waitFor();
  await page.locator("#find").fill("");
  await page.keyboard.press("Enter");
  await pair(page, 1).waitFor();
  watched.check();
  await close();
});

test("sending into an open conversation, half-close, and the close reason", async () => {
  const client = await Client.connect(server.port(0));
  await client.ask("who waits\n", "WHO WAITS\n");
  const conv = await find("req:\"who waits\" is:open");
  const { page, watched, close } = await openConsole(server, { at: at("", conv) });
  await pair(page, 1).waitFor();
  client.received = "";
  const field = page.getByLabel("Message to the peer");
  /** The page empties the field once a call is answered, also of what was typed meanwhile. */
  const emptied = () => until(async () => (await field.inputValue()) === "", "the field is empty");
  await field.fill("from the console");
  await page.keyboard.press("Enter");
  await until(() => client.received === "from the console\n", "the peer receives it, framed");
  await emptied();
  await pair(page, 2).waitFor();
  assert.equal(await pair(page, 2).locator(".a pre").textContent(), "from the console⏎");
  await pair(page, 2).getByText("no request: sent by the server on its own").waitFor();
  assert.deepEqual(await axe(page), [], "with the composer");
  await page.getByLabel("Framing").selectOption("hex");
  await field.fill("00 ff");
  await page.locator("form.composer").getByRole("button", { name: "Send" }).click();
  await pair(page, 3).locator("pre.hex").waitFor();
  await emptied();
  await field.fill("zz");
  await page.keyboard.press("Enter");
  await page.getByText(/invalid hex/).waitFor();
  await pressTwice(page, "Half-close", () => client.socket.readableEnded);
  client.socket.end();
  await page.locator(".ev", { hasText: "closed-by-operator" }).waitFor();
  await page.getByText("Closed, so nothing more can be sent into it.").waitFor();
  watched.check();
  await close();
});

test("a client's record: its peer half-closes, and the lines tell it", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "echoic-browser-"));
  const peer = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.end("bye");
    setTimeout(() => socket.destroy(), 300);
  });
  await new Promise((resolve) => peer.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {net.AddressInfo} */ (peer.address());
  await new Promise((resolve) => {
    const connect = spawn(program, ["connect", `127.0.0.1:${port}`, "--hold", "--store", path.join(folder, "echoic.db")], { stdio: ["ignore", "ignore", "ignore"] });
    connect.on("exit", resolve);
  });
  peer.close();
  const other = await Server.start(["upper=tcp://127.0.0.1:0?frame=line"], { folder });
  const conv = (await other.api("/conversations?q=role:client")).conversations[0].conv;
  const { page, watched, close } = await openConsole(other, { at: at("", conv) });
  await page.locator(".ev.warn", { hasText: "half-closed" }).getByText("the server has finished sending (FIN) after 3 B").waitFor();
  await page.locator(".ev", { hasText: "connected" }).waitFor();
  await page.locator(".title", { hasText: "recorded by the client" }).waitFor();
  watched.check();
  await close();
  await other.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("reset from the console is seen by the peer and told", async () => {
  const client = await Client.connect(server.port(0));
  await client.ask("to be reset\n", "TO BE RESET\n");
  const conv = await find("req:\"to be reset\" is:open");
  const { page, watched, close } = await openConsole(server, { at: at("", conv) });
  await pressTwice(page, "Reset", () => client.socket.destroyed);
  await page.locator(".ev.bad", { hasText: "reset-by-operator" }).waitFor();
  watched.check();
  await close();
});

test("messages that come while it is read appear, or are counted when the reader is elsewhere", async () => {
  const client = await Client.connect(server.port(0));
  for (let n = 1; n <= 60; n++) await client.ask(`grows ${n}\n`, `GROWS ${n}\n`);
  const conv = await find("req:\"grows 1\" is:open");
  await until(async () => (await server.api(`/conversations/${conv}`)).exchanges === 60, "60 are recorded");
  const { page, watched, close } = await openConsole(server, { at: at("", conv) });
  await pair(page, 1).waitFor();
  await client.ask("grows 61\n", "GROWS 61\n");
  await page.getByRole("button", { name: "1 new" }).waitFor();
  await page.keyboard.press("G");
  await pair(page, 61).waitFor();
  await client.ask("grows 62\n", "GROWS 62\n");
  await pair(page, 62).waitFor();
  await until(async () => {
    const box = await pair(page, 62).boundingBox();
    return box !== null && box.y < 860;
  }, "the newest is in view");
  client.close();
  await page.locator(".ev", { hasText: "peer-closed" }).waitFor();
  watched.check();
  await close();
});

test("an open conversation tells the bytes of its messages, an ended one those of its socket", async () => {
  const client = await Client.connect(server.port(0));
  await client.ask("open one\n", "OPEN ONE\n");
  const conv = await find("req:\"open one\" is:open");
  const { page, watched, close } = await openConsole(server, { at: at("", conv) });
  await page.getByText(/^1 exchange.*; 9 B of requests and 9 B of replies so far\. It is open\.$/).waitFor();
  await client.ask("and more\n", "AND MORE\n");
  await page.getByText(/^2 exchanges.*; 18 B of requests and 18 B of replies so far\. It is open\.$/).waitFor();
  client.close();
  await page.getByText(/received 18 B, sent 18 B\./).waitFor();
  assert.equal(await page.getByText("so far").count(), 0);
  watched.check();
  await close();
});

test("bytes that made no message are shown with what their header claimed", async () => {
  const client = await Client.connect(server.port(1));
  client.socket.write(Buffer.from("ffff0102", "hex"));
  await new Promise((resolve) => setTimeout(resolve, 100));
  client.socket.end();
  const conv = await find("end:fin proto:tcp svc:echo");
  const { page, watched, close } = await openConsole(server, { at: at("", conv) });
  await page.locator(".ev", { hasText: "left over" }).getByText(/^4 B made no message of u16be: length 65535 claimed by ff ff/).waitFor();
  await page.locator(".box.left pre.hex", { hasText: "ff ff 01 02" }).waitFor();
  watched.check();
  await close();
});

test("an explained conversation shows its socket calls", async () => {
  await fetch(`${server.origin}/api/v1/explain`, { method: "POST", body: "{}", headers: { authorization: "Bearer 0123456789abcdef0123456789abcdef", "content-type": "application/json" } });
  const client = await Client.connect(server.port(0));
  await client.ask("explained\n", "EXPLAINED\n");
  const conv = await find("req:explained");
  const { page, watched, close } = await openConsole(server, { at: at("", conv) });
  await page.getByRole("heading", { name: "Socket calls, explained" }).waitFor();
  const calls = page.locator(".side .trace li");
  await until(async () => (await calls.allTextContents()).some((call) => /^recv\(\d+, \d+\)= 10$/.test(call)), "the call that read 10 bytes");
  client.close();
  watched.check();
  await close();
});

test("a conversation that was not explained causes no error in the browser's log", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/about" });
  /** @type {string[]} */
  const errors = [];
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  const calls = page.waitForResponse((response) => response.url().endsWith(`/conversations/${id}/calls`)).then(async (response) => [response.status(), await response.json()]);
  await page.goto(`${server.origin}/${at()}`);
  assert.deepEqual(await calls, [200, { calls: [] }]);
  await pair(page, 1).waitFor();
  assert.deepEqual(errors, []);
  assert.ok(await page.getByLabel("Socket calls").isHidden(), "no empty section");
  watched.check();
  await close();
});

test("a conversation of 20,000 messages scrolls with few of them in the page", async () => {
  const client = await Client.connect(server.port(0));
  for (let block = 0; block < 20; block++) {
    const lines = Array.from({ length: 1000 }, (_, n) => `m${block * 1000 + n + 1}\n`).join("");
    await client.ask(lines, `M${(block + 1) * 1000}\n`);
  }
  client.socket.end();
  const conv = await find("req:m19999 end:fin");
  const { page, watched, close } = await openConsole(server, { at: at("", conv) });
  await pair(page, 1).waitFor();
  const most = async () => {
    const pairs = await page.locator(".pair").count();
    assert.ok(pairs <= 400, `${pairs} pairs are in the page`);
  };
  await page.goto(`${server.origin}/${at("?at=12345", conv)}`);
  await page.locator("#m12345.at").waitFor();
  // Also where the page begins there.
  await page.reload();
  await page.locator("#m12345.at").waitFor();
  await page.goto(`${server.origin}/${at("?find=req:m199&at=19950", conv)}`);
  await page.locator("#m19950.at").waitFor();
  await page.reload();
  await page.locator("#m19950.at").waitFor();
  await page.goto(`${server.origin}/${at("?at=12345", conv)}`);
  await page.locator("#m12345.at").waitFor();
  assert.equal(await pair(page, 12345).locator(".q pre").textContent(), "m12345⏎");
  await most();
  await page.evaluate(() => {
    const talk = /** @type {Element} */ (document.querySelector(".talk"));
    talk.scrollTop = talk.scrollHeight / 4;
  });
  await until(async () => {
    const n = Number(await page.evaluate(() => {
      const top = document.querySelector(".talk")?.getBoundingClientRect().top ?? 0;
      return [...document.querySelectorAll(".pair")].find((one) => one.getBoundingClientRect().top > top)?.id.slice(1);
    }));
    return n > 4000 && n < 6000;
  }, "a quarter of the way down");
  await most();
  await page.keyboard.press("G");
  await pair(page, 20000).waitFor();
  await page.locator(".ev", { hasText: "peer-closed" }).waitFor();
  await most();
  watched.check();
  await close();
});

test("the conversation by keyboard alone", async () => {
  const { page, watched, close } = await openConsole(server, { at: at() });
  await pair(page, 1).waitFor();
  await page.keyboard.press("]");
  await page.locator("#m1.at").waitFor();
  await page.keyboard.press("]");
  await page.locator("#m2.at").waitFor();
  assert.match(page.url(), /at=2/);
  await page.keyboard.press("[");
  await page.locator("#m1.at").waitFor();
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowRight");
  assert.equal(await inspected(page, "where"), "#1 request, 0");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.locator(".convs .row").first().waitFor();
  watched.check();
  await close();
});

test("after a menu that a key opened, keys act on the message again", async () => {
  const { page, watched, close } = await openConsole(server, { at: at() });
  await pair(page, 1).waitFor();
  for (const leave of ["Escape", "choice"]) {
    await page.keyboard.press("]");
    await page.keyboard.press("c");
    await page.getByRole("menu", { name: "Copy" }).waitFor();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press(leave === "Escape" ? "Escape" : "End");
    if (leave === "choice") await page.keyboard.press("Enter");
    await page.getByRole("menu", { name: "Copy" }).waitFor({ state: "hidden" });
    await page.keyboard.press("Enter");
    await until(() => page.evaluate(() => document.activeElement?.tagName === "PRE"), `Enter goes into the bytes after ${leave}`);
    await page.keyboard.press("Escape");
  }
  // A button that was pressed keeps the focus until a key moves among the messages.
  await page.locator(".has-menu > button").first().click();
  await page.getByRole("menu", { name: "Copy" }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("]");
  await page.locator("#m3.at").waitFor();
  await page.keyboard.press("Enter");
  await until(() => page.evaluate(() => document.activeElement?.closest("#m3 pre") !== null), "Enter goes into the bytes of message 3");
  watched.check();
  await close();
});

test("a conversation that is not there is told, with the way back and nothing dead", async () => {
  const { page, close } = await openConsole(server, { at: at("?q=svc%3Aupper", 999_999) });
  await page.getByText("c999999 is not in the record").waitFor();
  const main = page.locator("#main");
  assert.equal(await main.getByRole("button").count(), 0, "no control that does nothing");
  assert.equal(await main.locator("pre, input").count(), 0);
  await page.keyboard.press("c");
  assert.equal(await page.getByRole("menu").count(), 0, "no shortcut that does nothing");
  assert.deepEqual(await axe(page), []);
  await main.getByRole("link", { name: "Back to the list" }).click();
  await page.locator(".convs .row").first().waitFor();
  assert.match(page.url(), /q=svc%3Aupper/);
  await close();
});

test("the conversation is accessible, and looks as it should at each width in both themes", async () => {
  const { page, watched, close } = await openConsole(server, { at: at("?at=3") });
  await page.locator("#m3.at").waitFor();
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowRight");
  for (const { width, height } of SIZES) {
    for (const theme of THEMES) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `conversation, ${width}, ${theme}`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.equal(over, false, `nothing is cut off at ${width}`);
      await shoot(page, `conversation-${width}-${theme}`);
    }
  }
  watched.check();
  await close();
});
