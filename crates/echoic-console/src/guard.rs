//! The guard: decides on every request before anything else sees it. What is not allowed here is denied.
//!
//! A page of another origin can make a browser send requests to a console on loopback, also with the console's cookie from a
//! page on another port, and it can have a host name of its own resolve to 127.0.0.1 (DNS rebinding). So a request must name the
//! console's own host, come from its own origin or from no page at all, and carry the token or the cookie that a
//! login sets. Only [`is_open`] routes need neither; they carry no recorded data.

use std::{net::SocketAddr, time::Instant};

use axum::http::{HeaderMap, HeaderName, Method, Uri, header, request::Parts};

use crate::{login::Caller, problem::Problem, state::App};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The values of Host that a console accepts: those of the address it is bound to.
#[derive(Debug)]
pub(crate) struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    pub(crate) fn new(bound: SocketAddr) -> Self {
        let port = bound.port();
        let mut names = Vec::new();
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            names.push(format!("{host}:{port}"));
            // Browsers leave out the default port.
            if port == 80 {
                names.push(host.to_owned());
            }
        }
        if !names.contains(&bound.to_string()) && !bound.ip().is_unspecified() {
            names.push(bound.to_string());
        }
        Self { names }
    }
}

/// How a request shows that it may.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Credential {
    Bearer,
    Cookie,
}

/// Checks a request, and returns whether it has the token or the cookie. An error is the answer.
pub(crate) fn check(parts: &Parts, app: &App) -> Result<bool, Problem> {
    let host = host(&parts.headers, &parts.uri, &app.hosts)?;
    let has_origin = origin(&parts.headers, host)?;
    let same_site = fetch_site(&parts.headers)?;
    let credential = authenticate(&parts.headers, app);
    if is_open(&parts.method, &parts.uri) {
        return Ok(credential.is_some());
    }
    let Some(by) = credential else {
        // The cookie is not counted: a page that outlives its server sends an old one, and no one guesses 256 bits.
        if parts.headers.contains_key(header::AUTHORIZATION)
            && let Some(caller) = parts.extensions.get::<Caller>()
            && let Err(left) = app.logins.add_failure(*caller, Instant::now())
        {
            return Err(Problem::too_many_wrong_tokens(left));
        }
        return Err(Problem::forbidden(
            "the token is missing or wrong: open the URL that echoic printed, or send \"Authorization: Bearer TOKEN\"",
        ));
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
fn host<'a>(headers: &'a HeaderMap, uri: &Uri, hosts: &Hosts) -> Result<&'a str, Problem> {
    let host = one(headers, &header::HOST)?.unwrap_or_default();
    let is_ours = hosts.names.iter().any(|name| name == host);
    let is_same = uri.authority().is_none_or(|named| named.as_str() == host);
    if is_ours && is_same {
        return Ok(host);
    }
    Err(Problem::forbidden(format!(
        "the Host of the request is none of this console's: use http://{}",
        hosts.names[0]
    )))
}

/// Returns whether the request has an Origin. An error if that is not the console itself.
fn origin(headers: &HeaderMap, host: &str) -> Result<bool, Problem> {
    match one(headers, &header::ORIGIN)? {
        None => Ok(false),
        Some(origin) if origin.strip_prefix("http://") == Some(host) => Ok(true),
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

fn authenticate(headers: &HeaderMap, app: &App) -> Option<Credential> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let bearer = value.as_bytes().strip_prefix(b"Bearer ")?;
        return app
            .config
            .token
            .matches(bearer)
            .then_some(Credential::Bearer);
    }
    app.cookie.is_in(headers).then_some(Credential::Cookie)
}

/// Returns the value of a header that may be there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let invalid = || Problem::forbidden(format!("invalid header {name}"));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| invalid()),
        (Some(_), Some(_)) => Err(invalid()),
    }
}
