//! Whether the process lives, and whether it does its work.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};

use crate::{
    problem::Problem,
    state::App,
    watched::{Unready, Watched},
};

/// The process lives
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, description = "it does", body = String)))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// The server serves, and the store takes what it is given
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "it does", body = String),
    (status = 503, description = "it does not", body = Problem)))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    Watched::of(&app).readiness().await.map_err(|unready| {
        // The reason may name a path: it needs the token.
        let why = match unready {
            Unready::StoreFails(_) => "the store fails: GET /api/v1/info says why".to_owned(),
            Unready::ServiceFails(_) => {
                "the service of no endpoint can answer: GET /api/v1/endpoints says why".to_owned()
            }
            other => other.to_string(),
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    Ok("ok\n")
}
