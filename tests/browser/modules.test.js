/**
 * The modules of the page that need no page.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { escapeText, hexLines, hexPairs, toArray } from "../../crates/echoic-console/web/js/bytes.js";
import { proposals, termAt } from "../../crates/echoic-console/web/js/completion.js";
import { clock, count, counted, duration, rate, shellQuote, size, sizeRate, storeOption } from "../../crates/echoic-console/web/js/format.js";
import { href, parse } from "../../crates/echoic-console/web/js/router.js";
import { RowList } from "../../crates/echoic-console/web/js/rows/list.js";

test("figures read as people write them", () => {
  assert.deepEqual([0, 40, 82_114, 999_499, 1_200_000, 12_345_678, 2_500_000_000, 3_600_000_000_000].map(duration),
    ["0 ms", "40 ns", "82 µs", "999 µs", "1.2 ms", "12 ms", "2.5 s", "60 min"]);
  assert.equal(duration(null), "–");
  assert.deepEqual([6, 1967, 9999, 66_048, 67_318_579, 5e12].map(size), ["6 B", "1,967 B", "9,999 B", "64.5 KiB", "64.2 MiB", "4.5 TiB"]);
  assert.deepEqual([432, 3174, 66_048].map(sizeRate), ["432 B/s", "3.1 KiB/s", "64.5 KiB/s"]);
  assert.deepEqual([0, 0.4, 38, 2227].map(rate), ["0/s", "0.4/s", "38/s", "2,227/s"]);
  assert.deepEqual([count(48_112), counted(1, "exchange"), counted(2, "exchange")], ["48,112", "1 exchange", "2 exchanges"]);
  assert.match(clock(1_795_349_047_113_999), /^\d\d:\d\d:\d\d\.113$/);
});

test("hidden characters become signs, all else stays", () => {
  /** @param {string} text */
  const shown = (text) => escapeText(text).map((piece) => (piece.sign ? `[${piece.text}]` : piece.text)).join("");
  assert.equal(shown("hello\n"), "hello[⏎]");
  assert.equal(shown("a\tb\r\n\0\x1b\x7f\x9b"), "a[⇥]b[\\r⏎\\x00\\x1b\\x7f\\u009b]");
  assert.equal(shown("\u202egnp\u200b\u2028\ufeff"), "[\\u202e]gnp[\\u200b\\u2028\\ufeff]");
  assert.equal(shown("Straße 漢字 😀 ☺️ <b>"), "Straße 漢字 😀 ☺️ <b>");
  assert.equal(shown("\u{e0041}\u{1bca0}\uffff"), "[\\u{e0041}\\u{1bca0}\\uffff]");
  assert.equal(escapeText("x".repeat(50), 10)[0]?.text.length, 10);
});

test("bytes are decoded whichever way they come", () => {
  assert.deepEqual([...toArray({ len: 2, text: "é" })], [0xc3, 0xa9]);
  assert.deepEqual([...toArray({ len: 3, b64: "AP8b" })], [0, 0xff, 0x1b]);
  assert.equal(hexPairs(toArray({ len: 3, b64: "AP8b" })), "00 ff 1b");
  assert.deepEqual(hexLines(new Uint8Array([0x41, 0, 0x42]), 2), [
    { offset: 0, hex: "41 00", text: "A·" },
    { offset: 2, hex: "42", text: "B" },
  ]);
});

test("completion proposes keys, then their values", () => {
  /** @param {string} text */
  const texts = (text) => proposals(text, text.length).map((p) => p.text);
  assert.deepEqual(texts("proto:tcp re"), ["req:", "rep:", "req~", "rep~"]);
  assert.deepEqual(texts("-pro"), ["proto:"]);
  assert.deepEqual(texts("proto:ud"), ["udp"]);
  assert.deepEqual(texts('rep:"two wor'), [], "nothing within quotes");
  assert.deepEqual(texts("proto:tcp "), [], "nothing after a finished term");
  assert.deepEqual(termAt("a -req:b", 8), { start: 3, text: "req:b", quoted: false });
});

test("addresses of screens survive a round trip", () => {
  const address = href("conversations/360", { q: 'rep:"a & b" -x#1', at: 5, none: null });
  const { name, arg, params } = parse(address);
  assert.deepEqual([name, arg, params.get("q"), params.get("at"), params.has("none")], ["conversations", "360", 'rep:"a & b" -x#1', "5", false]);
  assert.equal(parse("").name, "live");
});

test("a command names each store but echoic.db of the current directory", () => {
  /** @param {string} url */
  const option = (url) => storeOption(/** @type {any} */ ({ store: { url, name: "echoic.db" } }));
  assert.equal(option("sqlite:echoic.db"), "");
  assert.equal(option("sqlite:/var/lib/echoic.db"), " --store /var/lib/echoic.db");
  assert.equal(option("sqlite:my logs/echoic.db"), " --store 'my logs/echoic.db'");
  assert.equal(storeOption(null), "");
});

test("what is copied survives a shell", () => {
  assert.equal(shellQuote("lat:>5ms"), "'lat:>5ms'");
  assert.equal(shellQuote("it's"), "'it'\\''s'");
  assert.equal(shellQuote("svc:upper"), "svc:upper");
});

test("rows that come in any order while they are held back are in order, and all of them count as new", () => {
  for (let run = 0; run < 200; run++) {
    const list = new RowList((/** @type {number} */ id) => id);
    list.start([3, 2, 1], true);
    const coming = [4, 5, 6, 7, 8, 9];
    /** @type {number[][]} */
    const events = [];
    while (coming.length > 0) {
      const event = Array.from({ length: Math.min(coming.length, 1 + Math.floor(Math.random() * 3)) }, () => coming.splice(Math.floor(Math.random() * coming.length), 1)[0] ?? 0);
      const fresh = event.filter((id) => id > list.newest).sort((a, b) => b - a);
      const late = event.filter((id) => !fresh.includes(id));
      if (fresh.length > 0) list.hold(fresh);
      for (const id of late) list.insert(id);
      events.push(event);
    }
    assert.deepEqual([...list.held, ...list.items], [9, 8, 7, 6, 5, 4, 3, 2, 1], JSON.stringify(events));
    assert.equal(list.unseen, 6, JSON.stringify(events));
  }
});
