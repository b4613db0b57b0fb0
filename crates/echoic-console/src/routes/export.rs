//! Export of exchanges as files.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use echoic_core::{
    export::{Export, ExportFormat},
    store::Order,
};
use echoic_recorder::wall_clock_now;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{extract::Query, problem::Problem, search, state::App, stream};

/// The format of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// The lines of `log --json`, with the time in UTC.
    #[default]
    Jsonl,
    /// Comma-separated values (RFC 4180).
    Csv,
}

/// What to export
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfExport {
    /// A filter, as `echoic log` takes it.
    q: Option<String>,
    /// `jsonl`, the default, or `csv`.
    #[param(inline)]
    format: Option<Format>,
}

/// Export exchanges as a file, oldest first
#[utoipa::path(get, path = "/api/v1/export", tag = "exchanges", params(OfExport),
    extensions(("x-example" = json!("GET /api/v1/export?q=since:1h&format=csv"))), responses(
    (status = 200, description = "the file", body = String, content_type = "application/x-ndjson"),
    (status = 400, description = "a mistake in the request", body = Problem)))]
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Query(query): Query<OfExport>,
) -> Result<Response, Problem> {
    let filter = search::filter(query.q.as_deref())?;
    if search::order(&filter)? == Some(Order::NewestFirst) {
        let detail = "an export is oldest first: leave out sort:";
        return Err(Problem::invalid(detail));
    }
    let format = match query.format.unwrap_or_default() {
        Format::Jsonl => ExportFormat::JsonLines,
        Format::Csv => ExportFormat::Csv,
    };
    let limit = filter.limit().unwrap_or(u64::MAX);
    let mut export = Export::new(format, filter, limit, wall_clock_now());
    let body = stream::body(move |output| async move {
        while let Some(part) = export
            .next(&*app.store)
            .await
            .map_err(|error| error.to_string())?
        {
            output.send(part).await?;
        }
        Ok(())
    });
    let name = format!("attachment; filename=\"echoic.{format}\"");
    let headers = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, body).into_response())
}
