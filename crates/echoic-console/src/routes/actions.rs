//! What acts on the server: endpoints, live conversations, explained calls.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use echoic_core::{
    control::{CloseHow, Control, Requested},
    framing::{FramingPair, ReplyEnd},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    extract::{self, Path},
    json::{BytesJson, EndpointJson},
    problem::Problem,
    state::App,
};

/// The endpoints of the server.
#[derive(Serialize, ToSchema)]
pub(super) struct Endpoints {
    /// In the order in which they were opened. Empty if this console runs no server.
    endpoints: Vec<EndpointJson>,
}

/// A wanted state of an endpoint.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointChange {
    /// `open` to accept again, `paused` to accept nothing for now, `draining` to accept nothing and end the conversations.
    #[schema(value_type = String, example = "paused")]
    state: Requested,
}

/// Bytes for the peer of an open conversation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sending {
    /// As text, sent in UTF-8.
    #[schema(example = "hello")]
    text: Option<String>,
    /// As pairs of hexadecimal digits.
    hex: Option<String>,
    /// In base64.
    b64: Option<String>,
    /// Framing that adds its terminator or header; by default the bytes are sent as they are.
    #[schema(example = "line")]
    frame: Option<String>,
}

/// Bytes that were sent.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    /// Their number, framing included.
    sent: usize,
}

/// How to close a conversation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Closing {
    /// `fin` in order, `rst` at once, `half` for our half alone.
    #[serde(rename = "how")]
    #[schema(value_type = String, example = "fin")]
    by: CloseHow,
}

/// An object without keys.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

impl App {
    /// Returns the server, to change something.
    pub(super) fn acting(&self, what: &'static str) -> Result<&dyn Control, Problem> {
        self.writable()?;
        self.control.as_deref().ok_or_else(|| {
            let detail = format!(
                "this console shows a record and runs no server, so it cannot {what}: use the console of `echoic serve`, or --on"
            );
            Problem::new(StatusCode::CONFLICT, detail)
        })
    }

    /// Fails if this console is read-only.
    pub(super) fn writable(&self) -> Result<(), Problem> {
        if self.config.readonly {
            return Err(Problem::forbidden(
                "this console is read-only: start echoic without --console-readonly to change something",
            ));
        }
        Ok(())
    }
}

/// List the endpoints of the server
#[utoipa::path(get, path = "/api/v1/endpoints", tag = "server",
    extensions(("x-example" = json!("GET /api/v1/endpoints"))), responses(
    (status = 200, description = "the endpoints", body = Endpoints)))]
pub(super) async fn endpoints(State(app): State<Arc<App>>) -> Json<Endpoints> {
    let endpoints = app.control.as_ref().map(|control| control.endpoints());
    let endpoints = endpoints.unwrap_or_default();
    Json(Endpoints {
        endpoints: endpoints.iter().map(EndpointJson::from).collect(),
    })
}

/// Pause, resume or drain an endpoint
#[utoipa::path(patch, path = "/api/v1/endpoints/{id}", tag = "server", request_body = EndpointChange,
    params(("id" = u32, Path, description = "its number")),
    extensions(("x-example" = json!("PATCH /api/v1/endpoints/1 {\"state\":\"paused\"}"))), responses(
    (status = 200, description = "its new state", body = EndpointJson),
    (status = 403, description = "this console is read-only", body = Problem),
    (status = 404, description = "there is no such endpoint", body = Problem),
    (status = 409, description = "this console runs no server", body = Problem)))]
pub(super) async fn set_endpoint(
    State(app): State<Arc<App>>,
    Path(id): Path<u32>,
    extract::Json(change): extract::Json<EndpointChange>,
) -> Result<Json<EndpointJson>, Problem> {
    let control = app.acting("pause or resume an endpoint")?;
    let status = control.set_endpoint(id, change.state).await?;
    app.hub.endpoint_changed(&status);
    Ok(Json(EndpointJson::from(&status)))
}

/// Send bytes to the peer of an open conversation
#[utoipa::path(post, path = "/api/v1/conversations/{id}/send", tag = "server", request_body = Sending,
    params(("id" = u64, Path, description = "its id")),
    extensions(("x-example" = json!("POST /api/v1/conversations/3/send {\"text\":\"hello\\n\"}"))), responses(
    (status = 200, description = "they are queued behind earlier replies", body = Sent),
    (status = 400, description = "a mistake in the request", body = Problem),
    (status = 403, description = "this console is read-only", body = Problem),
    (status = 404, description = "the conversation is not open", body = Problem),
    (status = 409, description = "this console runs no server", body = Problem),
    (status = 503, description = "too much is waiting to be sent", body = Problem)))]
pub(super) async fn send(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    extract::Json(sending): extract::Json<Sending>,
) -> Result<Json<Sent>, Problem> {
    let control = app.acting("send")?;
    let Sending {
        text,
        hex,
        b64,
        frame,
    } = sending;
    let message = BytesJson { text, hex, b64 }.decode()?;
    let bytes = match framing(frame.as_deref())? {
        Some(framing) => {
            let mut bytes = Vec::new();
            let start = framing.outbound.open(&mut bytes);
            bytes.extend_from_slice(&message);
            let framed = framing.outbound.close(&mut bytes, start, ReplyEnd::Whole);
            framed.map_err(|error| Problem::invalid(error.to_string()))?;
            bytes
        }
        None => message,
    };
    if bytes.is_empty() {
        return Err(Problem::invalid(
            "there is nothing to send: the message is empty",
        ));
    }
    let sent = bytes.len();
    control.send(id, bytes).await?;
    Ok(Json(Sent { sent }))
}

/// Parses a framing.
pub(super) fn framing(text: Option<&str>) -> Result<Option<FramingPair>, Problem> {
    let parsed = text.map(str::parse::<FramingPair>).transpose();
    parsed.map_err(|error| Problem::invalid(error.to_string()))
}

/// Close an open conversation
#[utoipa::path(post, path = "/api/v1/conversations/{id}/close", tag = "server", request_body = Closing,
    params(("id" = u64, Path, description = "its id")),
    extensions(("x-example" = json!("POST /api/v1/conversations/3/close {\"how\":\"fin\"}"))), responses(
    (status = 204, description = "it closes"),
    (status = 403, description = "this console is read-only", body = Problem),
    (status = 404, description = "the conversation is not open", body = Problem),
    (status = 409, description = "this console runs no server", body = Problem)))]
pub(super) async fn close(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    extract::Json(closing): extract::Json<Closing>,
) -> Result<StatusCode, Problem> {
    let control = app.acting("close a conversation")?;
    control.close(id, closing.by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Note the socket calls of the next conversation
#[utoipa::path(post, path = "/api/v1/explain", tag = "server", request_body = Empty,
    extensions(("x-example" = json!("POST /api/v1/explain {}"))), responses(
    (status = 202, description = "the next conversation is explained"),
    (status = 403, description = "this console is read-only", body = Problem),
    (status = 409, description = "this console runs no server", body = Problem)))]
pub(super) async fn explain(
    State(app): State<Arc<App>>,
    extract::Json(Empty {}): extract::Json<Empty>,
) -> Result<StatusCode, Problem> {
    let control = app.acting("explain a conversation")?;
    // First the hub, which else could miss a conversation that opens at once.
    app.hub.explain_armed();
    control.explain_next()?;
    Ok(StatusCode::ACCEPTED)
}
