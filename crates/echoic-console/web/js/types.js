/**
 * Types of the REST API and of the live events, as docs/how-to-use-the-api.md tells them.
 * @module
 */

/** @typedef {{len: number, text?: string, b64?: string, reads?: number, writes?: number, cut?: boolean}} Bytes */
/**
 * @typedef {object} Exchange
 * @property {number} id @property {number} conv @property {number} n @property {string} ep @property {string} proto
 * @property {string} svc @property {string} role @property {string} peer @property {number} t_us @property {number | null} lat_ns
 * @property {string} outcome @property {string | null} [fault] @property {Bytes} req @property {Bytes} rep
 * @property {string[]} [tags] @property {string} [note] @property {Tls} [tls]
 */
/**
 * @typedef {{version?: string, cipher?: string, sni?: string, alpn?: string, client?: {subject: string, sha256: string},
 *   failure?: string}} Tls
 */
/**
 * @typedef {object} Conversation
 * @property {number} conv @property {number} opened_us @property {number | null} half_us @property {number | null} ended_us
 * @property {string} ep @property {string} proto @property {string} svc @property {string} frame @property {string} role
 * @property {string} peer @property {string} local @property {"open" | "half-closed" | "ended"} state
 * @property {string | null} end @property {string | null} reason @property {number} exchanges
 * @property {number | null} request_bytes @property {number | null} reply_bytes so far; null once it has ended
 * @property {number | null} received @property {number | null} sent @property {number | null} unsent null until then
 * @property {number | null} [discarded] @property {Bytes & {claimed: number | null, note: string}} [left]
 * @property {string[]} tags @property {string} [note] @property {Tls} [tls]
 */
/** @typedef {{t_us: number, what: string, received?: number, n?: number, for_us?: number}} Mark */
/** @typedef {{exchanges: Exchange[], marks: Mark[], next: number | null, total: number}} Messages */
/**
 * @typedef {object} Endpoint
 * @property {number} id @property {string} ep @property {string} proto @property {string[]} addrs @property {string} svc
 * @property {string} frame @property {"open" | "paused" | "draining"} state @property {number} open @property {number} accepted
 * @property {number} rejected @property {string} [failing] @property {string} [server] @property {string} [host]
 */
/**
 * @typedef {object} Process
 * @property {"serve" | "work" | "keep" | "console" | "other"} role @property {string} id @property {string} host
 * @property {number} pid @property {string} version @property {number} started_us
 * @property {"running" | "stopping" | "silent"} state @property {number | null} seen_us
 * @property {{addr: string, svc: string}[]} listening @property {string | null} svc @property {string[]} subjects
 * @property {string | null} store @property {string | null} console
 * @property {{pending: number, in_flight: number} | null} runs
 * @property {{waiting: number, waiting_bytes: number, lost: number, committed_us: number | null} | null} record
 * @property {{name: string, pending: number | null, bytes: number | null, oldest_us: number | null} | null} stream
 * @property {string | null} failing
 */
/** @typedef {{since_us: number, why: string, exchanges: number}} Failing */
/**
 * @typedef {object} Info
 * @property {number} v @property {string} version @property {string} instance @property {number} pid
 * @property {number} started_us @property {number} now_us @property {boolean} readonly
 * @property {{control: boolean, send: boolean, labels: boolean, processes: boolean, live: string}} features
 * @property {{url: string, kind: string, name: string, bytes: number | null, exchanges: number, conversations: number,
 *   oldest_us: number | null, newest_us: number | null, retention: string | null, durability: string | null}} store
 * @property {{recorded: number, waiting: number, lost: number, failing: Failing | null} | null} recorder
 * @property {{accepted: number, rejected: number, open: number, served: number} | null} counts
 * @property {{flag: string, value: string, meaning: string}[]} limits
 * @property {Endpoint[]} endpoints @property {{id: number, url: string}[]} targets
 */
/** @typedef {{t_us: number, call: string, args: string, result: string}} SocketCall */
/** @typedef {{to: number | null, left: number | null, done: boolean}} Searched */
/** @typedef {{v: number, seq: number, version: string, instance: string, readonly: boolean}} Hello */
/** @typedef {{exchanges: Exchange[], more: number, first: number, last: number}} Batch */
/** @typedef {{opened: Conversation[], half: {conv: number, t_us: number}[], ended: Conversation[], more: number}} Conversations */
/**
 * @typedef {object} Tick
 * @property {number} t_us @property {number} exchanges @property {number} received @property {number} sent
 * @property {number | null} p50_ns @property {number | null} p99_ns @property {number | null} max_ns @property {number | null} open
 * @property {number | null} served @property {number | null} recorded @property {number | null} waiting
 * @property {number | null} lost @property {Failing | null} failing @property {number | null} behind_us
 * @property {number | null} bytes
 * @property {{id: number | null, ep: string, svc: string, exchanges: number, opened: number, ended: number, open: number,
 *   state: string}[]} endpoints
 * @property {{conv: number, ep: string, peer: string, exchanges: number, state: string}[]} clients
 */

export {};
