//! Whether the process lives, and whether it does its work.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use echoic_core::control::{EndpointState, EndpointStatus};

use crate::{problem::Problem, state::App};

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
    let unready = |why: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why);
    if let Some(recorder) = &app.recorder
        && recorder.status().failure.is_some()
    {
        return Err(unready("the store fails: GET /api/v1/info says why"));
    }
    if let Some(control) = &app.control
        && !control.endpoints().iter().any(is_serving)
    {
        return Err(unready("no endpoint is open"));
    }
    app.store
        .last()
        .await
        .map_err(|_| unready("the store cannot be read"))?;
    Ok("ok\n")
}

fn is_serving(endpoint: &EndpointStatus) -> bool {
    endpoint.state == EndpointState::Open
}
