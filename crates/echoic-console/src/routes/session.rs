//! The login of the page.

use std::{sync::Arc, time::Instant};

use axum::{
    Extension,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    extract::Json,
    login::{Caller, LoginLimit},
    problem::Problem,
    state::App,
};

/// Longest body of a login. It needs no token, and none is longer than 128 bytes.
const BODY_BYTES_MAX: usize = 4 << 10;

/// A login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The token, from the URL that echoic printed.
    token: String,
}

/// Exchange the token for a cookie
#[utoipa::path(post, path = "/api/v1/session", tag = "session", security(()), request_body = Login, responses(
    (status = 204, description = "the cookie is set"),
    (status = 403, description = "the token is wrong", body = Problem),
    (status = 413, description = "the body is longer than 4096 bytes", body = Problem),
    (status = 429, description = "too many wrong tokens in a minute", body = Problem)))]
pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Json(login): Json<Login, BODY_BYTES_MAX>,
) -> Response {
    // Before the limit: else any local program could keep out who has the token.
    if !app.config.token.matches(login.token.as_bytes()) {
        return wrong(&app.logins, caller).into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(cookie) = app.cookie.to_header() {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Returns the answer to a wrong token.
fn wrong(logins: &LoginLimit, caller: Caller) -> Problem {
    match logins.add_failure(caller, Instant::now()) {
        Ok(()) => Problem::forbidden("the token is wrong: use the URL that echoic printed last"),
        Err(left) => Problem::too_many_wrong_tokens(left),
    }
}
