/**
 * Addresses of the screens: `#/live?q=…`, `#/conversations/360?at=5`. The hash never reaches the server.
 * @module
 */

/** @typedef {{name: string, arg: string, params: URLSearchParams}} Route */

/** Returns the route of an address. @param {string} hash @returns {Route} */
export function parse(hash) {
  const text = hash.replace(/^#\/?/, "");
  const cut = text.indexOf("?");
  const path = cut < 0 ? text : text.slice(0, cut);
  const [name = "", ...rest] = path.split("/");
  return { name: name || "live", arg: rest.join("/"), params: new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1)) };
}

/**
 * Returns an address: `href("conversations", {q: "rep:ERROR"})`. Empty parameters are left out.
 * @param {string} path name of the screen, with an argument behind `/`
 * @param {Record<string, string | number | null | undefined>} [params]
 */
export function href(path, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "") query.set(key, String(value));
  }
  const text = query.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

/** The route shown now. */
export function current() {
  return parse(location.hash);
}

/** Goes to an address; the step back leads here. @param {string} address */
export function go(address) {
  location.hash = address;
}

/**
 * Changes parameters of the address in place. Null removes one.
 * @param {Record<string, string | number | null>} changes
 */
export function setParams(changes) {
  const route = current();
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") route.params.delete(key);
    else route.params.set(key, String(value));
  }
  const address = href(route.arg ? `${route.name}/${route.arg}` : route.name, Object.fromEntries(route.params));
  if (address === location.hash) return;
  history.replaceState(null, "", address);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
