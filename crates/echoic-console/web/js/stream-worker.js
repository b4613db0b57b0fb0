/**
 * The shared worker that holds the one connection of all tabs of a browser.
 * @module
 */
import { StreamCore } from "./stream-core.js";

/** @type {Set<MessagePort>} */
const ports = new Set();

const core = new StreamCore((message) => {
  for (const port of ports) port.postMessage(message);
});

/** @param {MessagePort} port @param {string} wish */
function serve(port, wish) {
  if (wish === "retry") core.connect();
  if (wish === "leave") {
    ports.delete(port);
    if (ports.size === 0) core.close();
  }
}

addEventListener("connect", (event) => {
  const port = /** @type {MessageEvent} */ (event).ports[0];
  if (!port) return;
  port.onmessage = (message) => serve(port, message.data);
  for (const message of core.welcome()) port.postMessage(message);
  ports.add(port);
  // A page that comes to a locked connection may have logged in.
  if (ports.size === 1 || core.state.state === "locked") core.connect();
});
