/**
 * The screen About: what runs here, with the values of the server.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, closeBrowser, openConsole, Server, SIZES, shoot, shots, THEMES } from "./support.js";

/** @type {Server} */
let server;

before(async () => {
  server = await Server.start(["upper=tcp://127.0.0.1:0?frame=line", "upper=udp://127.0.0.1:0"], { args: ["--max-message", "123K", "--retention", "7d"] });
});

after(async () => {
  await server?.stop();
  await closeBrowser();
  console.log(`screenshots are in ${shots}`);
});

test("About names version, store, limits, endpoints and the way in", async () => {
  const { page, watched, close } = await openConsole(server, { at: "#/about" });
  const info = await server.api("/info");
  const card = (/** @type {string} */ name) => page.getByRole("region", { name, exact: true });
  await card("echoic").getByText(info.version, { exact: true }).waitFor();
  await card("echoic").getByText(info.instance).waitFor();
  await card("Store").getByText(info.store.url).waitFor();
  await card("Store").getByText(info.store.retention, { exact: true }).waitFor();
  await card("Endpoints").getByText(`127.0.0.1:${server.port(0)}`).first().waitFor();
  const limits = await card("Limits").getByRole("row").allTextContents();
  assert.equal(limits.length, info.limits.length + 1);
  assert.ok(limits.some((text) => text.includes("--max-message") && text.includes("123")), limits.join("\n"));
  const { port } = new URL(server.origin);
  await page.getByText(`ssh -N -L ${port}:127.0.0.1:${port} USER@HOST`).waitFor();
  assert.equal(await page.locator("#filter").isVisible(), false, "the filter has nothing to filter here");
  for (const link of await page.locator(".links-list a").all()) {
    const answer = await page.request.get(server.origin + (await link.getAttribute("href")));
    assert.equal(answer.status(), 200, String(await link.textContent()));
  }
  watched.check();
  await close();
});

test("About is readable at every width, in both themes", async () => {
  const { page, close } = await openConsole(server, { at: "#/about" });
  await page.getByRole("region", { name: "Limits", exact: true }).waitFor();
  for (const { width, height } of SIZES) {
    for (const theme of THEMES) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `about, ${width}, ${theme}`);
      await shoot(page, `about-${width}-${theme}`);
      const [wide, room] = await page.evaluate(() => [document.querySelector("main")?.scrollWidth ?? 0, document.querySelector("main")?.clientWidth ?? 0]);
      assert.ok(wide <= room, `nothing is cut off at ${width}`);
    }
  }
  await close();
});
