/**
 * Calls of the REST API.
 * @module
 */

/** An answer that is an error, as `application/problem+json` tells it. */
export class ApiError extends Error {
  /** @param {number} status @param {{title?: string, detail?: string, column?: number, suggestion?: string}} problem */
  constructor(status, problem) {
    super(problem.detail || problem.title || `the console answered with status ${status}`);
    this.status = status;
    this.detail = this.message;
    /** Where in the filter the mistake is, from 1. */
    this.column = problem.column;
    /** What was probably meant there. */
    this.suggestion = problem.suggestion;
  }
}

/** What the console wants to see. @typedef {"token" | "password"} Secret */

/** Called when the console does not know this browser, with whether it did before. @type {(needs: Secret, again: boolean) => void} */
let onLocked = () => {};
/** Whether the console has known this browser. */
let wasKnown = false;

/** @param {(needs: Secret, again: boolean) => void} fn */
export function whenLocked(fn) {
  onLocked = fn;
}

/** @typedef {Record<string, string | number | boolean | null | undefined>} Query */

/** Returns the address of a call. Empty values are left out. @param {string} path @param {Query} [query] */
export function url(path, query = {}) {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") params.set(key, String(value));
  }
  const text = params.toString();
  return `/api/v1${path}${text ? `?${text}` : ""}`;
}

/** @param {Response} response */
async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}

/**
 * @param {string} method @param {string} path @param {Query} query @param {unknown} body @param {AbortSignal} [signal]
 * @returns {Promise<any>} what the answer says; null if it is empty
 */
async function request(method, path, query, body, signal) {
  /** @type {RequestInit} */
  const init = { method, signal, credentials: "same-origin", headers: { accept: "application/json" } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { accept: "application/json", "content-type": "application/json" };
  }
  const response = await fetch(url(path, query), init);
  if (response.ok) {
    wasKnown ||= path !== "/session";
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  }
  const problem = await problemOf(response);
  if (problem.needs && path !== "/session") onLocked(problem.needs, wasKnown);
  throw new ApiError(response.status, problem);
}

/** Returns what the console wants to see, if it does not know this browser. @returns {Promise<Secret | null>} */
export async function neededSecret() {
  const response = await fetch(url("/info"), { credentials: "same-origin" });
  return response.ok ? null : ((await problemOf(response)).needs ?? null);
}

export const api = {
  /** @param {string} path @param {Query} [query] @param {AbortSignal} [signal] */
  get: (path, query = {}, signal) => request("GET", path, query, undefined, signal),
  /** @param {string} path @param {unknown} body @param {Query} [query] @param {AbortSignal} [signal] */
  post: (path, body, query = {}, signal) => request("POST", path, query, body, signal),
  /** @param {string} path @param {unknown} body @param {Query} [query] */
  patch: (path, body, query = {}) => request("PATCH", path, query, body),
};

/** Whether an answer says that the filter has a mistake. @param {unknown} error @returns {error is ApiError} */
export function isMistake(error) {
  return error instanceof ApiError && error.status === 400;
}

/** Whether a call was given up by the page itself. @param {unknown} error */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
