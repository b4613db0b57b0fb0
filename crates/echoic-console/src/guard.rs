//! The guard: decides on every request before anything else sees it. What is not allowed here is denied.
//!
//! A page of another origin can make a browser send requests to a console on loopback, also with the console's cookie from a
//! page on another port, and it can have a host name of its own resolve to 127.0.0.1 (DNS rebinding). So a request must name the
//! console's own host, come from its own origin or from no page at all, and carry the token, the password or the cookie that a
//! login sets. Only [`is_open`] routes need none; they carry no recorded data.

use std::time::Instant;

use axum::http::{HeaderMap, HeaderName, Method, Uri, header, request::Parts};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    hosts::{Hosts, ReachedAt},
    login::Caller,
    password::Password,
    problem::{Problem, Secret},
    state::App,
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How a request shows that it may.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Credential {
    /// The token or the password in the header Authorization, which no page of another origin can send.
    Header,
    Cookie,
}

/// Checks a request, and returns whether it has the token, the password or the cookie. An error is the answer.
pub(crate) fn check(parts: &Parts, app: &App) -> Result<bool, Problem> {
    let host = host(parts, &app.hosts)?;
    let has_origin = origin(&parts.headers, &app.hosts, host)?;
    let same_site = fetch_site(&parts.headers)?;
    let credential = authenticate(&parts.headers, app);
    if is_open(&parts.method, &parts.uri) {
        // No password is looked at here: the answer is the same, but how long the connection lasts would tell a right one.
        return Ok(credential.is_some());
    }
    let by = match (credential, basic(&parts.headers), &app.config.password) {
        (Some(by), ..) => by,
        (None, Some(candidate), Some(password)) => by_password(parts, app, password, &candidate)?,
        _ => return Err(unknown(parts, app)),
    };
    let is_safe = matches!(parts.method, Method::GET | Method::HEAD);
    if by == Credential::Cookie && !is_safe && !has_origin && !same_site {
        return Err(Problem::forbidden(
            "a request that changes something must say where it comes from: send Origin, or the token as \
             \"Authorization: Bearer TOKEN\" instead of the cookie",
        ));
    }
    if !is_canonical(&parts.uri) {
        return Err(Problem::not_found("there is nothing at this path"));
    }
    Ok(true)
}

/// Compares a password, unless its address has failed too often.
fn by_password(
    parts: &Parts,
    app: &App,
    password: &Password,
    candidate: &[u8],
) -> Result<Credential, Problem> {
    let Some(caller) = parts.extensions.get::<Caller>() else {
        return Err(Problem::forbidden("the client has no address"));
    };
    let is_right = || password.matches(candidate);
    match app.logins.attempt(*caller, Instant::now(), is_right) {
        Ok(true) => Ok(Credential::Header),
        Ok(false) => Err(Problem::forbidden("the password is wrong").needing(Secret::Password)),
        Err(left) => Err(Problem::too_many_wrong_passwords(left)),
    }
}

/// Returns the answer to a request without a credential that is right.
fn unknown(parts: &Parts, app: &App) -> Problem {
    // The cookie is not counted: a page that outlives its server sends an old one, and no one guesses 256 bits.
    if parts.headers.contains_key(header::AUTHORIZATION)
        && let Some(caller) = parts.extensions.get::<Caller>()
        && let Err(left) = app.logins.add_failure(*caller, Instant::now())
    {
        return Problem::too_many_wrong_tokens(left);
    }
    if app.config.password.is_some() {
        let detail = "log in on the page; a script sends the password as \"Authorization: Basic\" with any user name, or the token \
                      as \"Authorization: Bearer TOKEN\"";
        return Problem::forbidden(detail).needing(Secret::Password);
    }
    let detail = "the token is missing or wrong: open the URL that echoic printed, or send \"Authorization: Bearer TOKEN\"";
    Problem::forbidden(detail).needing(Secret::Token)
}

/// Whether a route needs no token. The path is compared as it was sent: another spelling of it is another path.
pub(crate) fn is_open(method: &Method, uri: &Uri) -> bool {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match uri.path() {
        "/" | "/livez" | "/readyz" => is_read,
        "/api/v1/session" => *method == Method::POST,
        path => is_read && path.starts_with("/assets/") && is_canonical(uri),
    }
}

/// Whether a path is spelled in the one way that the routes use: no percent-encoding, no empty or relative segment, no
/// parameters.
fn is_canonical(uri: &Uri) -> bool {
    let Some(path) = uri.path().strip_prefix('/') else {
        return false;
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let segment = |segment: &str| {
        !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(is_plain)
    };
    path.is_empty() || path.split('/').all(segment)
}

/// Returns the host of the request, if it is one of ours.
fn host<'a>(parts: &'a Parts, hosts: &Hosts) -> Result<&'a str, Problem> {
    let host = one(&parts.headers, &header::HOST)?.unwrap_or_default();
    let is_ours = hosts.accept(host, parts.extensions.get::<ReachedAt>().copied());
    let named = parts.uri.authority();
    let is_same = named.is_none_or(|named| named.as_str() == host);
    if is_ours && is_same {
        return Ok(host);
    }
    Err(Problem::forbidden(format!(
        "the Host of the request is none of this console's: use {}{}",
        hosts.scheme(),
        hosts.example()
    )))
}

/// Returns whether the request has an Origin. An error if that is not the console itself.
fn origin(headers: &HeaderMap, hosts: &Hosts, host: &str) -> Result<bool, Problem> {
    match one(headers, &header::ORIGIN)? {
        None => Ok(false),
        Some(origin) if origin.strip_prefix(hosts.scheme()) == Some(host) => Ok(true),
        Some(_) => Err(Problem::forbidden(
            "the Origin of the request is another one than this console",
        )),
    }
}

/// Returns whether the browser says that the request comes from the console's own page. An error if it comes from another.
fn fetch_site(headers: &HeaderMap) -> Result<bool, Problem> {
    match one(headers, &SEC_FETCH_SITE)? {
        None | Some("none") => Ok(false),
        Some("same-origin") => Ok(true),
        Some(_) => Err(Problem::forbidden(
            "the request comes from a page of another site: type the URL of the console into the browser",
        )),
    }
}

/// Returns how a request shows that it may, but by a password.
fn authenticate(headers: &HeaderMap, app: &App) -> Option<Credential> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let bearer = value.as_bytes().strip_prefix(b"Bearer ")?;
        return app
            .config
            .token
            .matches(bearer)
            .then_some(Credential::Header);
    }
    app.cookie.is_in(headers).then_some(Credential::Cookie)
}

/// Returns the password of `Authorization: Basic` (RFC 7617), whatever the user name.
fn basic(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, pair) = value.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(pair.trim_ascii()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Returns the value of a header that may be there once.
pub(crate) fn one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let invalid = || Problem::forbidden(format!("invalid header {name}"));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| invalid()),
        (Some(_), Some(_)) => Err(invalid()),
    }
}
