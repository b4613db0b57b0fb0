/**
 * Bytes as other tools take them: "copy as".
 * @module
 */
import { hexLines, hexPairs } from "../bytes.js";
import { bare, isDatagram, shellQuote } from "../format.js";

/** Where a message went: protocol and address of the endpoint. @typedef {{proto: string, address: string}} Target */

/** @param {number} byte */
const hexByte = (byte) => byte.toString(16).padStart(2, "0");

/** @type {Record<number, string>} */
const NAMED = { 9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\" };

/** The inside of a literal in double quotes, of ASCII alone. @param {Uint8Array} bytes */
function literal(bytes) {
  return Array.from(bytes, (b) => NAMED[b] ?? (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : `\\x${hexByte(b)}`)).join("");
}

/** A word for a shell's printf, in quotes. POSIX knows octal escapes only. @param {Uint8Array} bytes */
export function printfWord(bytes) {
  /** @type {Record<number, string>} */
  const named = { 9: "\\t", 10: "\\n", 13: "\\r", 37: "%%", 39: "'\\''", 92: "\\\\" };
  const inner = Array.from(bytes, (b) => named[b] ?? (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : `\\${b.toString(8).padStart(3, "0")}`));
  return `'${inner.join("")}'`;
}

/** Host and port of an address. @param {string} address */
function hostPort(address) {
  const cut = address.lastIndexOf(":");
  return { host: address.slice(0, cut).replace(/^\[|\]$/g, ""), port: address.slice(cut + 1) };
}

/** @param {Uint8Array} bytes @param {Target} target */
function shell(bytes, { proto, address }) {
  const { host, port } = hostPort(address);
  const to = proto.startsWith("unix") ? `-U ${shellQuote(address)}` : `${host} ${port}`;
  return `printf ${printfWord(bytes)} | nc ${isDatagram(proto) ? "-u -w1 " : ""}${to}`;
}

/** The argument of `echoic connect`. @param {Target} target */
export function connectTarget({ proto, address }) {
  if (proto.startsWith("unix")) return shellQuote(`${proto}:${address}`);
  return proto === "tcp" ? address : `${proto}://${address}`;
}

/** @param {Uint8Array} bytes @param {Target} target */
function python(bytes, { proto, address }) {
  const { host, port } = hostPort(address);
  const local = proto.startsWith("unix");
  const family = local ? "AF_UNIX" : host.includes(":") ? "AF_INET6" : "AF_INET";
  const kind = isDatagram(proto) ? "SOCK_DGRAM" : "SOCK_STREAM";
  const to = local ? `"${literal(new TextEncoder().encode(address))}"` : `("${host}", ${port})`;
  return [
    "import socket",
    `with socket.socket(socket.${family}, socket.${kind}) as s:`,
    "    s.settimeout(5)",
    `    s.connect(${to})`,
    `    s.sendall(b"${literal(bytes)}")`,
    "    print(s.recv(65536))",
  ].join("\n");
}

/** @param {Uint8Array} bytes */
function cArray(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 12) {
    lines.push(`    ${Array.from(bytes.subarray(at, at + 12), (b) => `0x${hexByte(b)}`).join(", ")},`);
  }
  return `static const unsigned char message[${bytes.length}] = {\n${lines.join("\n")}\n};`;
}

/** @param {Uint8Array} bytes */
function hexdump(bytes) {
  const lines = hexLines(bytes).map(({ offset, hex, text }) => {
    const digits = `${hex.slice(0, 23).padEnd(23)}  ${hex.slice(24).padEnd(23)}`;
    return `${offset.toString(16).padStart(8, "0")}  ${digits}  |${text.replaceAll("·", ".")}|`;
  });
  return [...lines, bytes.length.toString(16).padStart(8, "0")].join("\n");
}

/** Each form, with its name in the menu. @type {{name: string, make: (bytes: Uint8Array, target: Target) => string}[]} */
export const FORMATS = [
  { name: "Text", make: (bytes) => new TextDecoder().decode(bytes) },
  { name: "Hex", make: (bytes) => hexPairs(bytes) },
  { name: "Hex dump", make: hexdump },
  { name: "Python bytes", make: (bytes) => `b"${literal(bytes)}"` },
  { name: "Python with a socket", make: python },
  { name: "Rust bytes", make: (bytes) => `b"${literal(bytes)}"` },
  { name: "C array", make: cArray },
  { name: "Shell: printf | nc", make: shell },
  { name: "echoic command", make: (bytes, target) => `printf ${printfWord(bytes)} | echoic connect ${connectTarget(target)}` },
];

/** The endpoint of a conversation: our own address if we served it, else the peer's. @param {import("../types.js").Conversation} conversation */
export function targetOf({ proto, role, local, peer }) {
  return { proto, address: bare(role === "client" ? peer : local) };
}
