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
    login::Caller,
    problem::{Problem, Secret},
    state::App,
};

/// Longest body of a login. It needs no token, no token is longer than 128 bytes, and no password than 512.
const BODY_BYTES_MAX: usize = 4 << 10;

/// A login: with the token or the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The token, from the URL that echoic printed.
    #[schema(nullable = false)]
    token: Option<String>,
    /// The password of `ECHOIC_PASSWORD`.
    #[schema(nullable = false)]
    password: Option<String>,
}

/// Exchange the token or the password for a cookie
#[utoipa::path(post, path = "/api/v1/session", tag = "session", security(()), request_body = Login, responses(
    (status = 204, description = "the cookie is set"),
    (status = 400, description = "the body has neither, or both", body = Problem),
    (status = 403, description = "the token or the password is wrong", body = Problem),
    (status = 413, description = "the body is longer than 4096 bytes", body = Problem),
    (status = 429, description = "too many wrong ones in a minute", body = Problem)))]
pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Json(login): Json<Login, BODY_BYTES_MAX>,
) -> Response {
    let checked = match (login.token, login.password) {
        (Some(token), None) => check_token(&app, caller, &token),
        (None, Some(password)) => check_password(&app, caller, &password),
        _ => Err(Problem::invalid("expected a token, or a password")),
    };
    if let Err(problem) = checked {
        return problem.into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(cookie) = app.cookie.to_header() {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Compares before the limit: else any local program could keep out who has the token.
fn check_token(app: &App, caller: Caller, token: &str) -> Result<(), Problem> {
    if app.config.token.matches(token.as_bytes()) {
        return Ok(());
    }
    Err(match app.logins.add_failure(caller, Instant::now()) {
        Ok(()) => Problem::forbidden("the token is wrong: use the URL that echoic printed last"),
        Err(left) => Problem::too_many_wrong_tokens(left),
    })
}

/// Compares only within the limit: people choose passwords that can be guessed.
fn check_password(app: &App, caller: Caller, candidate: &str) -> Result<(), Problem> {
    let Some(password) = &app.config.password else {
        let detail = "this console has no password: log in with its token";
        return Err(Problem::forbidden(detail).needing(Secret::Token));
    };
    let is_right = || password.matches(candidate.as_bytes());
    match app.logins.attempt(caller, Instant::now(), is_right) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Problem::forbidden("the password is wrong")),
        Err(left) => Err(Problem::too_many_wrong_passwords(left)),
    }
}
