/**
 * The screen Numbers: its figures are those of the record.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { axe, Client, closeBrowser, openConsole, Server, SIZES, shoot, shots, THEMES, until } from "./support.js";

const ENDPOINTS = ["upper=tcp://127.0.0.1:0?frame=line", "upper=udp://127.0.0.1:0", "greet=tcp://127.0.0.1:0"];
const CHARTS = ["Exchanges a second", "Latency", "Open conversations", "Latency by percentile"];

/** @type {Server} */
let server;

before(async () => {
  server = await Server.start(ENDPOINTS);
  const clients = await Promise.all([1, 2, 3].map(() => Client.connect(server.port(0))));
  for (const client of clients) for (let n = 0; n < 40; n++) await client.ask(`line ${n}\n`, `LINE ${n}\n`);
  clients[0]?.socket.resetAndDestroy();
  await Client.connect(server.port(2)).then((client) => until(() => client.received !== "", "the greeting"));
});

after(async () => {
  await server?.stop();
  await closeBrowser();
  console.log(`screenshots are in ${shots}`);
});

/** @param {import("playwright-core").Page} page @param {string} title */
const chart = (page, title) => page.locator("figure.chart", { has: page.getByRole("heading", { name: title, exact: true }) });
/** @param {import("playwright-core").Page} page @param {string} name */
const endpointRow = (page, name) => page.getByRole("table", { name: "By endpoint" }).locator(".row:not(.head)", { hasText: name });

/** Waits until every chart is drawn. @param {import("playwright-core").Page} page */
async function drawn(page) {
  for (const title of CHARTS) await chart(page, title).locator("svg.plot").waitFor();
}

/** Text of the cells of a row. @param {import("playwright-core").Page} page @param {string} name */
const cells = (page, name) => endpointRow(page, name).getByRole("cell").allTextContents();

test("the figures equal the record, and follow it", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/numbers" });
  await drawn(page);
  const count = async (/** @type {string} */ q) => (await server.api(`/exchanges/count?q=${encodeURIComponent(q)}`)).count;
  /** The exchanges of all steps in the table. */
  const shown = async () => {
    const rows = await chart(page, "Exchanges a second").locator("tbody tr").all();
    let sum = 0;
    for (const row of rows) sum += Number((await row.locator("td").first().textContent())?.replaceAll(",", ""));
    return sum;
  };
  await page.getByRole("button", { name: "Tables" }).click();
  const recorded = 121;
  await until(async () => (await count("")) === recorded, "all are recorded");
  await until(async () => (await shown()) === recorded, "the steps of the table add up to the record");
  const client = await Client.connect(server.port(0));
  for (let n = 0; n < 5; n++) await client.ask(`more ${n}\n`, `MORE ${n}\n`);
  await until(async () => (await shown()) === recorded + 5, "the table follows");

  const stats = await server.api("/stats?step=10s");
  const own = stats.by.find((/** @type {any} */ by) => by.svc === "upper");
  assert.equal(own.exchanges, await count("svc:upper"));
  const { port } = { port: server.port(0) };
  await until(async () => (await cells(page, `127.0.0.1:${port}`))[2] === "3", "three conversations are open there");
  const text = await cells(page, `127.0.0.1:${port}`);
  assert.equal(text[6], `${own.request_bytes.toLocaleString("en")} B`, "received");
  assert.equal(text[8], "0", "all were answered");
  client.close();
  watched.check();
  await close();
});

test("a row filters the page, and the address has range, step, view and filter", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/numbers" });
  await drawn(page);
  await endpointRow(page, "greet").click();
  await until(() => /q=ep%3Atcp%3A\d+\+svc%3Agreet/.test(page.url()), "the filter is in the address");
  await until(async () => (await endpointRow(page, "upper").count()) === 0, "other endpoints are gone");
  await page.getByText("filtered", { exact: false }).first().waitFor();
  await endpointRow(page, "greet").getByRole("button").press("Enter");
  await endpointRow(page, "upper").first().waitFor();

  await page.getByLabel("Range", { exact: true }).selectOption("1h");
  await page.getByLabel("Step", { exact: true }).selectOption("300s");
  await page.getByRole("button", { name: "Tables" }).click();
  await page.getByText("one point every 5 min").waitFor();
  assert.match(page.url(), /range=1h/);
  const address = page.url();
  await page.reload();
  await page.getByRole("heading", { name: "Last hour" }).waitFor();
  await page.getByText("one point every 5 min").waitFor();
  assert.equal(page.url(), address);
  await until(async () => (await chart(page, "Exchanges a second").locator("tbody tr").count()) === 12, "12 steps");
  await chart(page, "Latency by percentile").getByRole("rowheader", { name: "p99", exact: true }).waitFor();
  watched.check();
  await close();
});

test("charts are drawn at the width of their box, with a sentence, and nothing that runs", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/numbers" });
  await drawn(page);
  for (const { width, height } of SIZES) {
    await page.setViewportSize({ width, height });
    const fits = () => page.evaluate(() => [...document.querySelectorAll(".drawn")].every((box) => {
      const svg = box.querySelector("svg");
      return svg !== null && Math.abs(Number(svg.getAttribute("width")) - box.clientWidth) < 1;
    }));
    await until(fits, `charts ${width} px wide`);
  }
  for (const title of CHARTS) {
    assert.match((await chart(page, title).locator("> p").textContent()) ?? "", /\w+.*\.$/, title);
    assert.ok(((await chart(page, title).locator("svg title").textContent()) ?? "").length > 3, title);
  }
  assert.equal(await page.locator(".drawn script, .drawn [style], .drawn a, .drawn image").count(), 0);
  watched.check();
  await close();
});

test("of a chart nothing is taken over that could run or load", async () => {
  const { page, watched, close } = await openConsole(server);
  const hostile = `<svg xmlns="http://www.w3.org/2000/svg" class="plot" width="9" onload="alert(1)" style="opacity:0"><title>t</title><desc>Hostile.</desc>
    <script>alert(2)</script><a href="javascript:alert(3)"><text>link</text></a><image href="https://example.org/x.png"/><foreignObject><p>html</p></foreignObject>
    <style>path{fill:red}</style><path d="M0 0h9" onclick="alert(4)"/><use href="https://example.org/y.svg#z"/></svg>`;
  await page.route("**/charts/exchanges.svg*", (route) => route.fulfill({ contentType: "image/svg+xml", body: hostile }));
  await page.goto(`${server.origin}/#/numbers`);
  await chart(page, "Exchanges a second").locator("> p", { hasText: "Hostile." }).waitFor();
  const kept = await chart(page, "Exchanges a second").locator(".drawn *").evaluateAll((nodes) => nodes.map((node) => `${node.localName} ${node.getAttributeNames().join(",")}`.trim()));
  assert.deepEqual(kept, ["svg class,width", "title", "desc", "path d"]);
  // The browser reports what the policy blocked while it parsed the answer. Nothing ran, and nothing was loaded.
  assert.deepEqual(watched.wrong.filter((what) => !what.includes("Content Security Policy")), []);
  await close();
});

test("pause stops the figures, and resume brings them up to date", async () => {
  const { page, close } = await openConsole(server, { at: "#/numbers?view=tables&step=1s" });
  /** Calls that are under way. */
  const calls = new Set();
  page.on("request", (request) => calls.add(request));
  page.on("requestfinished", (request) => calls.delete(request));
  page.on("requestfailed", (request) => calls.delete(request));
  await endpointRow(page, "greet").waitFor();
  // What the reader asked for is drawn during a pause too. The percentiles are the last of it.
  await chart(page, "Latency by percentile").getByRole("rowheader").first().waitFor();
  await page.getByRole("button", { name: /^Pause/ }).click();
  const text = () => page.locator("#main").textContent();
  // What was asked for before the pause may still be drawn.
  let before = await text();
  for (let since = Date.now(); Date.now() - since < 1000; ) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const now = await text();
    if (now !== before || calls.size > 0) since = Date.now();
    before = now;
  }
  const client = await Client.connect(server.port(0));
  await client.ask("during the pause\n", "DURING");
  await new Promise((resolve) => setTimeout(resolve, 4500));
  assert.equal(await text(), before, "nothing changes during a pause");
  await page.getByRole("button", { name: /^Resume/ }).first().click();
  await until(async () => (await text()) !== before, "the figures change");
  client.close();
  await close();
});

test("figures go out as CSV, .hgrm, PromQL and a command", async () => {
  const { page, context, close } = await openConsole(server, { at: "#/numbers", acceptDownloads: true });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: server.origin });
  await drawn(page);
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "CSV" }).click()]);
  const [head = "", ...lines] = readFileSync(await file.path(), "utf8").trim().split("\r\n");
  assert.ok(head.startsWith("t_us,exchanges,ok,"));
  const sum = lines.reduce((all, line) => all + Number(line.split(",")[1]), 0);
  const times = lines.map((line) => Number(line.split(",")[0]));
  const iso = (/** @type {number} */ us) => new Date(us / 1000).toISOString();
  const [from = 0, second = 0] = times;
  const span = `after:${iso(from)} before:${iso((times.at(-1) ?? 0) + second - from)}`;
  assert.equal(sum, (await server.api(`/exchanges/count?q=${encodeURIComponent(span)}`)).count);
  const [hgrm] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Latencies as .hgrm" }).click()]);
  assert.match(readFileSync(await hgrm.path(), "utf8"), /Value\s+Percentile/);
  const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
  await page.getByRole("button", { name: "Copy as PromQL" }).click();
  await until(async () => /echoic_/.test(await clipboard()), "the queries are copied");
  const metrics = await fetch(`${server.origin}/metrics`, { headers: { authorization: `Bearer ${"0123456789abcdef".repeat(2)}` } }).then((answer) => answer.text());
  for (const [name = ""] of (await clipboard()).matchAll(/echoic_[a-z_]+/g)) assert.ok(metrics.includes(name), `${name} is a metric`);
  await page.getByRole("button", { name: "Copy as command" }).first().click();
  await until(async () => /^echoic log --count .*since:5m/.test(await clipboard()), "the command is copied");
  await close();
});

test("Numbers is readable at every width, in both themes, as charts and as tables", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/numbers" });
  for (const view of ["charts", "tables"]) {
    await page.getByRole("button", { name: view === "charts" ? "Charts" : "Tables" }).click();
    if (view === "charts") await drawn(page);
    for (const { width, height } of SIZES) {
      for (const theme of THEMES) {
        await page.setViewportSize({ width, height });
        await page.emulateMedia({ colorScheme: theme });
        await new Promise((resolve) => setTimeout(resolve, 800));
        assert.deepEqual(await axe(page), [], `${view}, ${width}, ${theme}`);
        await shoot(page, `numbers-${view}-${width}-${theme}`);
        const [wide, room] = await page.evaluate(() => [document.querySelector("main")?.scrollWidth ?? 0, document.querySelector("main")?.clientWidth ?? 0]);
        assert.ok(wide <= room, `nothing is cut off at ${width}`);
      }
    }
  }
  watched.check();
  await close();
});
