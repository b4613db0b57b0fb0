//! Parts of a request, with errors that name what is wrong.

use std::time::Duration;

use axum::{
    RequestPartsExt,
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::problem::Problem;

/// Longest body of a request, where a route has no limit of its own.
const BODY_BYTES_MAX: usize = 2 << 20;

/// Time for a body to come.
const BODY_WITHIN: Duration = Duration::from_secs(20);

/// The query of a request. Its type denies unknown parameters.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + 'static> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query: Result<axum::extract::Query<T>, _> = parts.extract().await;
        query.map(|query| Self(query.0)).map_err(|error| {
            let text = error.body_text();
            let why = text
                .rsplit_once("query string: ")
                .map_or(&*text, |(_, why)| why);
            Problem::invalid(format!("invalid query: {why}"))
        })
    }
}

/// A number or a name in the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let path: Result<axum::extract::Path<T>, _> = parts.extract().await;
        path.map(|path| Self(path.0)).map_err(|_| {
            Problem::not_found("there is nothing at this path: expected a number in it")
        })
    }
}

/// A body of JSON with at most `MAX` bytes. Its type denies unknown keys.
#[derive(Debug)]
pub(crate) struct Json<T, const MAX: usize = BODY_BYTES_MAX>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned, const MAX: usize> FromRequest<S> for Json<T, MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let detail = "expected a body of JSON: send \"Content-Type: application/json\"";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let body = timeout(BODY_WITHIN, to_bytes(request.into_body(), MAX)).await;
        let body = body.map_err(|_| {
            let detail = "the body did not come in time";
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })?;
        let body = body.map_err(|_| {
            let detail = format!("the body is longer than {MAX} bytes, or was cut");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        })?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| Problem::invalid(format!("invalid body: {error}")))
    }
}
