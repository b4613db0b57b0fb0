//! The API as it documents itself: OpenAPI for programs, plain text for people and language models.

use std::fmt::Write;

use axum::{Json, http::header, response::IntoResponse};
use utoipa::openapi::{
    OpenApi, RefOr,
    path::{Operation, ParameterIn},
};

use super::document;

/// The OpenAPI document of this API
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "docs",
    extensions(("x-example" = json!("GET /api/v1/openapi.json"))), responses(
    (status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn openapi() -> Json<OpenApi> {
    Json(document())
}

/// This page
#[utoipa::path(get, path = "/api/v1", tag = "docs",
    extensions(("x-example" = json!("GET /api/v1"))), responses(
    (status = 200, description = "plain text", body = String)))]
pub(super) async fn plain() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        text(&document()),
    )
}

/// The page of `GET /api/v1`, where programs look for it
#[utoipa::path(get, path = "/llms.txt", tag = "docs",
    extensions(("x-example" = json!("GET /llms.txt"))), responses(
    (status = 200, description = "plain text", body = String)))]
pub(super) async fn llms() -> impl IntoResponse {
    plain().await
}

const HEAD: &str = "\
# echoic

> The record of an echoic server (conversations, and exchanges of a request with its reply), and the server itself, over HTTP.

Every request needs the token, but for those that say otherwise: the header \"Authorization: Bearer TOKEN\". The token stands in
the URL that `echoic serve` prints (after #t=), or is what ECHOIC_TOKEN says. A request without it is answered 403. In the
examples, $URL is http://127.0.0.1:PORT and $TOKEN the token. A console with a password (ECHOIC_PASSWORD) also takes that, as
\"Authorization: Basic\" with any user name; one with TLS has an https URL.

Times are microseconds since the Unix epoch (t_us), durations are nanoseconds (lat_ns). An unknown parameter or key is an error.
Errors are JSON: {\"type\", \"title\", \"status\", \"detail\"}, and for a mistake in a filter its \"column\" and a \"suggestion\".
Lists take limit, and before=ID (older, newest first) or after=ID (newer, oldest first); the value for the next page is \"next\". A
filter (q) is that of `echoic log`: words, req: rep: any: req~REGEX hex: peer: port: ep: proto: svc: role: server: lat: size:
since: after: before: is: end: id: conv: n: tag: note:, OR, parentheses, - (not), and A THEN B for an order within a conversation.
Encode it for a URL. A body is JSON, and its request says so: \"Content-Type: application/json\".
";

/// Returns the page: every operation with its parameters and an example.
fn text(document: &OpenApi) -> String {
    let mut page = HEAD.to_owned();
    let mut tags: Vec<&str> = Vec::new();
    let operations = || {
        document.paths.paths.iter().flat_map(|(path, item)| {
            let all = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PATCH", &item.patch),
            ];
            let known = all.into_iter();
            known
                .filter_map(move |(method, operation)| Some((method, &**path, operation.as_ref()?)))
        })
    };
    for (.., operation) in operations() {
        let tag = tag(operation);
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags.retain(|tag| *tag != "page");
    for tag_name in tags {
        let _ = write!(page, "\n## {tag_name}\n");
        for (method, path, operation) in operations().filter(|(.., one)| tag(one) == tag_name) {
            add_operation(&mut page, method, path, operation);
        }
    }
    page
}

fn tag(operation: &Operation) -> &str {
    let tags = operation.tags.as_deref().unwrap_or_default();
    tags.first().map_or("", |tag| &**tag)
}

fn add_operation(page: &mut String, method: &str, path: &str, operation: &Operation) {
    let summary = operation.summary.as_deref().unwrap_or_default();
    let _ = write!(page, "\n{method} {path}\n    {summary}.\n");
    if operation.security.is_some() {
        page.push_str("    It needs no token.\n");
    }
    if let Some(description) = &operation.description {
        for line in description.trim().lines() {
            let _ = writeln!(page, "    {line}");
        }
    }
    for parameter in operation.parameters.iter().flatten() {
        let RefOr::T(parameter) = parameter else {
            continue;
        };
        let kind = match parameter.parameter_in {
            ParameterIn::Path => "in the path",
            ParameterIn::Query | ParameterIn::QueryString => "?",
            ParameterIn::Header => "a header",
            ParameterIn::Cookie => "a cookie",
        };
        let about = parameter.description.as_deref().unwrap_or_default();
        let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = &parameter.name;
        let _ = match kind {
            "?" => writeln!(page, "    ?{name}=  {about}"),
            kind => writeln!(page, "    {name} ({kind})  {about}"),
        };
    }
    let example = operation.extensions.as_ref();
    let example = example.and_then(|all| all.get("x-example")?.as_str());
    let plain = format!("{method} {path}");
    let is_plain = method == "GET" && !path.contains('{');
    if let Some(example) = example.or_else(|| is_plain.then_some(plain.as_str())) {
        let _ = writeln!(page, "    $ {}", curl(example));
    }
}

/// Returns the command for an example: `METHOD PATH [BODY]`.
fn curl(example: &str) -> String {
    let mut parts = example.splitn(3, ' ');
    let (method, path) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut command = "curl -H \"Authorization: Bearer $TOKEN\"".to_owned();
    if method != "GET" {
        let _ = write!(command, " -X {method}");
    }
    if let Some(body) = parts.next() {
        let _ = write!(command, " -H 'Content-Type: application/json' -d '{body}'");
    }
    let _ = write!(command, " \"$URL{path}\"");
    command
}
