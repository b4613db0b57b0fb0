//! Bytes as they are, whole or in part.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use echoic_core::{event::Role, exchange::Exchange, store::Store};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{conversations, exchanges};
use crate::{
    extract::{Path, Query},
    problem::Problem,
    range::{self, Wanted},
    state::App,
    stream,
};

/// Exchanges that are read at once.
const EXCHANGES_AT_ONCE: usize = 100;

/// The bytes of a request
#[utoipa::path(get, path = "/api/v1/exchanges/{id}/request", tag = "exchanges",
    params(("id" = u64, Path, description = "its id"), ("Range" = Option<String>, Header, description = "one range of bytes")),
    extensions(("x-example" = json!("GET /api/v1/exchanges/17/request"))), responses(
    (status = 200, description = "the bytes", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 206, description = "a range of them", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 404, description = "it is not in the store", body = Problem),
    (status = 416, description = "the range is beyond the end", body = Problem)))]
pub(super) async fn request(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let bytes = exchanges::by_id(&app, id).await?.request;
    Ok(whole(
        bytes,
        &headers,
        &format!("exchange-{id}-request.bin"),
    ))
}

/// The bytes of a reply
#[utoipa::path(get, path = "/api/v1/exchanges/{id}/reply", tag = "exchanges",
    params(("id" = u64, Path, description = "its id"), ("Range" = Option<String>, Header, description = "one range of bytes")),
    extensions(("x-example" = json!("GET /api/v1/exchanges/17/reply"))), responses(
    (status = 200, description = "the bytes", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 206, description = "a range of them", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 404, description = "it is not in the store", body = Problem),
    (status = 416, description = "the range is beyond the end", body = Problem)))]
pub(super) async fn reply(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let bytes = exchanges::by_id(&app, id).await?.reply;
    Ok(whole(bytes, &headers, &format!("exchange-{id}-reply.bin")))
}

/// The direction of bytes, as our socket sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Direction {
    /// Received.
    In,
    /// Sent.
    Out,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfDirection {
    /// `in` for what our socket received, `out` for what it sent.
    #[param(inline)]
    dir: Direction,
}

/// All recorded bytes of a conversation in one direction
#[utoipa::path(get, path = "/api/v1/conversations/{id}/bytes", tag = "conversations",
    params(("id" = u64, Path, description = "its id"), OfDirection, ("Range" = Option<String>, Header, description = "one range of bytes")),
    extensions(("x-example" = json!("GET /api/v1/conversations/3/bytes?dir=in"))), responses(
    (status = 200, description = "the bytes", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 206, description = "a range of them", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 404, description = "it is not in the store", body = Problem),
    (status = 416, description = "the range is beyond the end", body = Problem)))]
pub(super) async fn conversation(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    Query(query): Query<OfDirection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let role = conversations::by_id(&app, id).await?.conversation.role;
    let of_requests = (role == Role::Server) == (query.dir == Direction::In);
    let (last, total) = measure(&*app.store, id, of_requests).await?;
    let word = if query.dir == Direction::In {
        "in"
    } else {
        "out"
    };
    let name = format!("conversation-{id}-{word}.bin");
    let (start, end) = match range::wanted(&headers, total) {
        Wanted::All => (0, total),
        Wanted::Part(start, end) => (start, end),
        Wanted::Beyond => return Ok(unsatisfiable(total)),
    };
    let body = stream::body(move |output| async move {
        let mut at = 0;
        let mut from_n = 0;
        while at < end && from_n <= last {
            let page = app.store.messages(id, from_n, EXCHANGES_AT_ONCE).await;
            let page = page.map_err(|error| error.to_string())?;
            let Some(newest) = page.last() else { break };
            from_n = newest.n + 1;
            for exchange in page {
                let bytes = side(exchange, of_requests);
                let (first, len) = (at, bytes.len() as u64);
                at += len;
                let from = start.clamp(first, at) - first;
                let to = end.clamp(first, at) - first;
                if from < to {
                    let part = bytes[from as usize..to as usize].to_vec();
                    output.send(part).await?;
                }
            }
        }
        Ok(())
    });
    Ok(partial(body, start, end, total, &name))
}

/// Returns the number of the last exchange, and the number of bytes on one side of all exchanges.
async fn measure(store: &dyn Store, id: u64, of_requests: bool) -> Result<(u64, u64), Problem> {
    let (mut last, mut total) = (0, 0);
    loop {
        let page = store.messages(id, last + 1, EXCHANGES_AT_ONCE).await?;
        let Some(newest) = page.last() else {
            return Ok((last, total));
        };
        last = newest.n;
        let sides = page
            .into_iter()
            .map(|one| side(one, of_requests).len() as u64);
        total += sides.sum::<u64>();
    }
}

fn side(exchange: Exchange, of_requests: bool) -> Vec<u8> {
    if of_requests {
        exchange.request
    } else {
        exchange.reply
    }
}

/// Answers with bytes that are in memory.
fn whole(mut bytes: Vec<u8>, headers: &HeaderMap, name: &str) -> Response {
    let total = bytes.len() as u64;
    let (start, end) = match range::wanted(headers, total) {
        Wanted::All => (0, total),
        Wanted::Part(start, end) => (start, end),
        Wanted::Beyond => return unsatisfiable(total),
    };
    bytes.truncate(end as usize);
    bytes.drain(..start as usize);
    partial(bytes.into(), start, end, total, name)
}

/// Answers with the bytes from `start` to before `end` of `total`.
fn partial(body: Body, start: u64, end: u64, total: u64, name: &str) -> Response {
    let mut response = body.into_response();
    let is_part = end - start < total;
    if is_part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let own = response.headers_mut();
    let range = format!("bytes {start}-{}/{total}", end.saturating_sub(1));
    for (header, value) in [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_LENGTH, (end - start).to_string()),
        (header::CONTENT_RANGE, range),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            own.insert(header, value);
        }
    }
    if !is_part {
        own.remove(header::CONTENT_RANGE);
    }
    response
}

fn unsatisfiable(total: u64) -> Response {
    let detail = format!("the range begins beyond the end: there are {total} bytes");
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail);
    (
        [(header::CONTENT_RANGE, format!("bytes */{total}"))],
        problem,
    )
        .into_response()
}
