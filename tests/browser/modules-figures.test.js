/**
 * The modules of Numbers and of the Send drawer that need no page.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isChosen, toggled } from "../../crates/echoic-console/web/js/numbers/endpoints.js";
import { promql } from "../../crates/echoic-console/web/js/numbers/promql.js";
import { RANGES, spanAt, stepFor, stepsFor, stepWords } from "../../crates/echoic-console/web/js/numbers/range.js";
import { csv, percentileRows } from "../../crates/echoic-console/web/js/numbers/tables.js";
import { command } from "../../crates/echoic-console/web/js/send/command.js";
import { bytesJson, callMessages, parseHex, TextError, typedMessages, unescapeText } from "../../crates/echoic-console/web/js/send/text.js";

/** @param {number[]} bytes */
const array = (...bytes) => Uint8Array.from(bytes);

test("escapes of the drawer are those of echoic connect", () => {
  assert.deepEqual(unescapeText("a\\n\\r\\t\\\\\\\"\\x00\\xff\\u{1f600}"), array(97, 10, 13, 9, 92, 34, 0, 255, 240, 159, 152, 128));
  assert.deepEqual(unescapeText("ß"), array(0xc3, 0x9f));
  for (const wrong of ["\\q", "\\x0", "\\xzz", "\\", "\\u{d800}", "\\u{110000}", "\\u1234"]) assert.throws(() => unescapeText(wrong), TextError, wrong);
});

test("digits in pairs, with what stands between them", () => {
  for (const same of ["0d0a", "0x0d0a", "0d:0a", "0D 0A", "0x0d,0x0a", "0d\n0a"]) assert.deepEqual(parseHex(same), array(13, 10), same);
  for (const wrong of ["0", "zz", "0d0"]) assert.throws(() => parseHex(wrong), TextError, wrong);
});

test("bytes go as text where they are text", () => {
  assert.deepEqual(bytesJson(array(104, 105, 0)), { text: "hi\0" });
  assert.deepEqual(bytesJson(array(255, 254)), { b64: "//4=" });
});

test("each line is a message where lines are framed, and the counter is the server's where it can be", () => {
  assert.deepEqual(typedMessages("a\nb\n", false, "line"), ["a", "b"]);
  assert.deepEqual(typedMessages("a\nb\n", false, "chunk"), ["a\nb\n"]);
  assert.deepEqual(callMessages(["a {n}"], false, 3), { messages: [{ text: "a {n}" }], repeat: 3, counter: true });
  assert.deepEqual(callMessages(["a"], false, 1), { messages: [{ text: "a" }] });
  assert.deepEqual(callMessages(["\\xff{n}"], false, 2), { messages: [{ b64: "/zE=" }, { b64: "/zI=" }] });
  assert.deepEqual(callMessages(["ff 00"], true, 1), { messages: [{ b64: "/wA=" }] });
});

test("the command says what the form says", () => {
  const wish = { url: "tcp://127.0.0.1:5000", frame: "", ownFrame: "line", hex: false, typed: ["hello"], times: 1, every: "0 ms", wait: "1s", expect: "" };
  assert.equal(command(wish), "echoic connect :5000 --frame line --send hello");
  assert.equal(command({ ...wish, typed: ["it's"], times: 3, every: "100 ms" }), "echoic connect :5000 --frame line --send 'it'\\''s' --count 3 --every 100ms");
  assert.equal(command({ ...wish, url: "udp://127.0.0.1:7", hex: true, typed: ["00 ff"] }), "echoic connect udp://:7 --send-hex '00 ff'");
  assert.equal(command({ ...wish, ownFrame: "chunk", expect: "HELLO", wait: "2s" }), "echoic connect :5000 --expect HELLO -w 2s --send hello");
  assert.equal(command({ ...wish, ownFrame: "chunk", expect: "a.\\x00", wait: "2s" }), "echoic connect :5000 --expect '/a\\.\\x00/' -w 2s --send hello");
  assert.equal(command({ ...wish, typed: ["@{n}"], times: 2 }), "echoic connect :5000 --frame line --send '\\x401' --send '\\x402'");
  assert.equal(command({ ...wish, typed: ["a&{n}"], times: 9 }), "seq 9 | sed 's/.*/--send=a\\&&/' | xargs -d '\\n' echoic connect :5000 --frame line");
  assert.equal(command({ ...wish, typed: ["a {n}"], times: 3, every: "1s" }), `for n in $(seq 3); do echoic connect :5000 --frame line --send 'a '"$n"; sleep 1; done`);
});

test("spans end with the step under way, and have whole steps", () => {
  assert.deepEqual(spanAt(1007.5, 300, 10), { from: 710, to: 1010, step: 10 });
  for (const [, , seconds] of RANGES.filter(([, , all]) => all > 0)) {
    const step = stepFor(seconds, 0);
    assert.ok(seconds / step <= 30 && seconds / step >= 20, `${seconds} s in steps of ${step} s`);
    for (const each of stepsFor(seconds)) assert.ok(seconds / each <= 718, "the server takes at most 720 steps");
  }
  assert.equal(stepFor(300, 1), 1);
  assert.equal(stepFor(300, 3600), 10, "a step that does not suit the span is left out");
  assert.deepEqual([1, 60, 600, 7200, 86_400].map(stepWords), ["1 s", "1 min", "10 min", "2 h", "1 d"]);
});

test("a row joins the filter, replaces another row, and leaves again", () => {
  /** @type {any} */
  const upper = { ep: "tcp:5000", svc: "upper" };
  /** @type {any} */
  const unix = { ep: "unix:/tmp/a b", svc: "echo" };
  const all = [upper, unix];
  const q = toggled('rep:"two words"', upper, all);
  assert.equal(q, 'rep:"two words" ep:tcp:5000 svc:upper');
  assert.ok(isChosen(q, upper) && !isChosen(q, unix));
  const other = toggled(q, unix, all);
  assert.equal(other, 'rep:"two words" ep:"unix:/tmp/a b" svc:echo');
  assert.equal(toggled(other, unix, all), 'rep:"two words"');
});

test("percentiles as far as the count supports them", () => {
  assert.deepEqual(percentileRows({ buckets: [] }), []);
  const buckets = [{ from_ns: 1000, to_ns: 1002, n: 90 }, { from_ns: 5000, to_ns: 5002, n: 10 }];
  assert.deepEqual(percentileRows({ buckets }).map(([name, time]) => [name, time]), [["p0", "1 µs"], ["p50", "1 µs"], ["p75", "1 µs"], ["p90", "1 µs"], ["p95", "5 µs"], ["p99", "5 µs"]]);
});

test("a file of figures has numbers alone, and queries name the endpoint", () => {
  /** @type {any} */
  const stats = { buckets: [{ t_us: 1, exchanges: 2, ok: 2, p50_ns: null }] };
  assert.deepEqual(csv(stats).split("\r\n").map((line) => line.split(",").length), [16, 16, 1]);
  assert.match(promql("ep:tcp:5000 svc:upper rep:x", 10), /echoic_exchanges_total\{endpoint="tcp:5000",service="upper"\}\[60s\]/);
  assert.match(promql("", 300), /echoic_exchanges_total\[300s\]/);
});
