/**
 * The ends and events of a conversation in words.
 * @module
 */

/**
 * What a close reason means. `{peer}` is who is at the other end. The words of the record are those of docs/store.md.
 * @type {Record<string, string>}
 */
const REASONS = {
  "peer-closed": "{peer} ended its stream (FIN), everything was answered, then we closed",
  "service-closed": "the service was done and closed, as greet does after its greeting",
  "peer-reset": "{peer} reset the connection (RST), or was gone when we wrote; bytes sent before may not have arrived",
  "idle-timeout": "nothing was received or sent for the idle timeout",
  "message-timeout": "a message was not complete in time after its first byte",
  "write-timeout": "{peer} took none of the bytes to be sent for the write timeout",
  "message-too-long": "a message was longer than the limit",
  malformed: "the bytes do not follow the framing",
  incomplete: "{peer} ended its stream inside a message",
  truncated: "{peer} ended its stream (FIN) without the close_notify of TLS; what it sent may have been cut on the way",
  "reply-too-long": "a reply was longer than its framing can tell",
  "too-many-connections": "as many connections as allowed were open already",
  "too-many-from-source": "as many connections of this source as allowed were open already",
  "rate-limited": "the source sent more in a second than it may",
  denied: "the source address is not admitted",
  "handshake-timeout": "the handshake was not finished in time",
  "handshake-failed": "the handshake failed",
  "server-stopped": "the server was stopped; everything received before was answered",
  "endpoint-drained": "the endpoint was drained; everything received before was answered",
  "drain-timeout": "it was not done in the time that a stopping server gives",
  "store-failed": "the store failed, and under strict durability nothing may go unrecorded",
  "service-failed": "the service returned an error",
  "worker-lost": "the service runs in other processes, and none of them answered in time",
  panicked: "a bug in echoic: the code of this conversation panicked",
  "system-error": "the operating system returned an error on this connection",
  "closed-by-operator": "it was closed from the console",
  "reset-by-operator": "it was reset from the console",
  "closed-by-us": "the client closed it",
  "reset-by-us": "the client reset it, as asked",
  "linger-timeout": "the client had ended its stream, and the server neither sent nor ended",
  "output-closed": "the output of the client was closed, so it stopped",
  refused: "nothing listens at the address",
  "process-died": "the process died before the end was recorded",
};

/** Tells a close reason. @param {string} reason @param {string} role whose record it is */
export function reasonWords(reason, role) {
  const text = REASONS[reason] ?? "";
  return text.replaceAll("{peer}", role === "client" ? "the server" : "the client");
}

/** Tells a mark within the conversation: icon, kind, word and sentence. @param {import("../types.js").Mark} mark @param {string} role */
export function markWords({ what, received, n, for_us }, role) {
  const peer = role === "client" ? "the server" : "the client";
  switch (what) {
    case "half-closed":
      return ["half", "warn", what, `${peer} has finished sending (FIN) after ${received ?? 0} B; what it sent is still being answered`];
    case "gap":
      return ["alert", "bad", what, `${n ?? 0} exchanges are not recorded: the store could not follow`];
    case "dropped":
      return ["alert", "warn", what, `${n ?? 0} datagrams were dropped before they were served`];
    case "silenced":
      return ["shut", "warn", what, `replies were withheld for ${((for_us ?? 0) / 1e6).toFixed(1)} s`];
    default:
      return ["none", "", what, ""];
  }
}
