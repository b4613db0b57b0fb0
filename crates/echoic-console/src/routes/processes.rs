//! What runs where.

use std::sync::Arc;

use axum::{Json, extract::State};
use echoic_recorder::wall_clock_now;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{json::ProcessJson, state::App};

/// The processes that belong together.
#[derive(Serialize, ToSchema)]
pub(super) struct Processes {
    /// Wall-clock time of this answer, in microseconds since the Unix epoch.
    now_us: i64,
    /// Servers, workers, keepers, consoles, each by name.
    processes: Vec<ProcessJson>,
}

/// List the processes: what runs where, and how far each is behind
///
/// Those that answer at the NATS server of --on. Without it this is the server of the console alone, or nothing.
#[utoipa::path(get, path = "/api/v1/processes", tag = "server",
    extensions(("x-example" = json!("GET /api/v1/processes"))), responses(
    (status = 200, description = "the processes", body = Processes)))]
pub(super) async fn processes(State(app): State<Arc<App>>) -> Json<Processes> {
    let seen = app.control.as_ref().map(|control| control.processes());
    let seen = seen.unwrap_or_default().into_iter();
    Json(Processes {
        now_us: wall_clock_now(),
        processes: seen.map(ProcessJson::from).collect(),
    })
}
