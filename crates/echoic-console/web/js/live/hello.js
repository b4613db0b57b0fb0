/**
 * The first run: three ways to send the first message to an endpoint that listens.
 * @module
 */
import { copyButton } from "../copy.js";
import { el } from "../dom.js";
import { bare, isDatagram, shellQuote } from "../format.js";
import { icon } from "../icons.js";

/** @typedef {import("../types.js").Endpoint} Endpoint */
/** @typedef {import("../types.js").Info} Info */

/** What comes back, by service. @type {Record<string, string>} */
const REPLIES = {
  upper: "The reply comes back in capitals, and both appear here and in the record.",
  lower: "The reply comes back in small letters, and both appear here and in the record.",
  echo: "The same bytes come back, and both appear here and in the record.",
  discard: "Nothing comes back; the request appears here and in the record.",
};
const OTHER = "Request and reply appear here and in the record.";

/** Host and port of an address without a scheme. @param {string} address */
function hostPort(address) {
  const cut = address.lastIndexOf(":");
  return { host: address.slice(0, cut).replace(/^\[|\]$/g, ""), port: address.slice(cut + 1) };
}

/** Commands that send the first message. @param {Endpoint} endpoint @returns {[string, string][]} */
function ways(endpoint) {
  const address = bare(endpoint.addrs[0] ?? endpoint.ep);
  const asks = !["greet", "time", "daytime", "chargen"].includes(endpoint.svc.split(":")[0] ?? "");
  const local = endpoint.proto.startsWith("unix");
  const { host, port } = hostPort(address);
  const target = local ? `-U ${shellQuote(address)}` : `${isDatagram(endpoint.proto) ? "-u -w1 " : ""}${host} ${port}`;
  const nc = asks ? `printf 'hello\\n' | nc ${target}` : `nc ${target}`;
  const loopback = host === "127.0.0.1" || host === "::1";
  const own = endpoint.proto === "tcp" ? (loopback ? `:${port}` : address) : `${endpoint.proto}://${loopback ? `:${port}` : address}`;
  const echoic = `echoic connect ${local ? shellQuote(`${endpoint.proto}:${address}`) : own}`;
  return [["nc", nc], ["echoic", echoic], ["Python", python(endpoint, address, asks)]];
}

/** @param {Endpoint} endpoint @param {string} address @param {boolean} asks */
function python(endpoint, address, asks) {
  const { host, port } = hostPort(address);
  const talk = [...(asks ? ['    s.sendall(b"hello\\n")'] : []), "    print(s.recv(1024).decode())"];
  if (endpoint.proto === "tcp") return ["import socket", `with socket.create_connection(("${host}", ${port})) as s:`, ...talk].join("\n");
  const local = endpoint.proto.startsWith("unix");
  const family = local ? "AF_UNIX" : host.includes(":") ? "AF_INET6" : "AF_INET";
  const kind = isDatagram(endpoint.proto) ? "SOCK_DGRAM" : "SOCK_STREAM";
  const target = local ? JSON.stringify(address) : `("${host}", ${port})`;
  return ["import socket", `with socket.socket(socket.${family}, socket.${kind}) as s:`, `    s.connect(${target})`, ...talk].join("\n");
}

/**
 * Creates the card.
 * @param {Info} info @param {((endpoint: Endpoint) => void) | null} onSend sends hello from the page; null if it cannot
 */
export function helloCard(info, onSend) {
  const endpoint = info.endpoints.find(({ svc, proto }) => proto === "tcp" && svc === "upper") ?? info.endpoints[0];
  if (!endpoint) return noEndpoint(info);
  const boxes = ways(endpoint).map(([name, command]) =>
    el("div", {}, el("h3", {}, name, copyButton("Copy", `Copy ${name}`, () => command)), el("pre", { tabindex: 0 }, command)),
  );
  const words = el("div", {}, el("h2", { id: "hello-head" }, "Everything is ready. Send the first message."),
    el("p", { class: "dim" }, REPLIES[endpoint.svc] ?? OTHER));
  const now = onSend && endpoint.svc !== "greet" && el("button", { class: "btn main", type: "button", onclick: () => onSend(endpoint) }, icon("send"), "Send hello now");
  return el("section", { class: "hello", "aria-labelledby": "hello-head" }, el("header", {}, words, now), el("div", { class: "ways" }, ...boxes));
}

/** @param {Info} info */
function noEndpoint(info) {
  const command = `echoic serve --store ${shellQuote(info.store.url.replace(/^sqlite:/, ""))}`;
  return el(
    "section",
    { class: "hello", "aria-labelledby": "hello-head" },
    el("header", {}, el("div", {}, el("h2", { id: "hello-head" }, "Nothing is recorded yet."), el("p", { class: "dim" }, "What a server records in this store appears here. This starts one:"))),
    el("div", { class: "ways one" }, el("div", {}, el("h3", {}, "echoic", copyButton("Copy", "Copy echoic", () => command)), el("pre", { tabindex: 0 }, command))),
  );
}

/** The line below the card. @param {Info} info */
export function awaitLine(info) {
  const n = info.endpoints.length;
  return el("p", { class: "await" }, icon("none"), `0 exchanges. ${n === 0 ? "Waiting for a server." : `Waiting on ${n} ${n === 1 ? "endpoint" : "endpoints"}.`}`);
}
