//! An endpoint of the server, and its counts.

use echoic_core::control::{EndpointState, EndpointStatus, ServerCounts};
use serde::Serialize;
use utoipa::ToSchema;

/// An endpoint of the server.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct EndpointJson {
    /// Its number, from 1.
    id: u32,
    /// Its short name.
    #[schema(example = "tcp:5000")]
    ep: String,
    /// Its protocol.
    #[schema(example = "tcp")]
    proto: &'static str,
    /// The addresses it listens on, as URLs.
    addrs: Vec<String>,
    /// The service that answers.
    #[schema(example = "upper")]
    svc: String,
    /// The framing of its streams, or `datagram`.
    #[schema(example = "line")]
    frame: String,
    /// Whether it serves.
    #[schema(value_type = String, example = "open")]
    state: EndpointState,
    /// Conversations that are open.
    open: u64,
    /// Conversations since the start, without rejected ones.
    accepted: u64,
    /// Connections rejected because of a limit or an access list.
    rejected: u64,
    /// Why its service can answer nobody now, as far as it is known: no worker serves it, for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<String>,
    /// The id of the server that has it. Left out where the console is the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// The name of that server: its host and its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "web1:4242")]
    host: Option<String>,
}

/// Counts of the server since its start.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CountsJson {
    /// Connections accepted.
    accepted: u64,
    /// Connections rejected because of a limit or an access list.
    rejected: u64,
    /// Conversations that are open.
    open: u64,
    /// Exchanges served: recorded, waiting for the store, or lost.
    served: u64,
}

impl From<&EndpointStatus> for EndpointJson {
    fn from(status: &EndpointStatus) -> Self {
        let info = &status.info;
        let urls = status
            .addresses
            .iter()
            .map(|address| address.url(info.proto));
        Self {
            id: status.id,
            ep: info.name.clone(),
            proto: info.proto.word(),
            addrs: urls.collect(),
            svc: info.service.clone(),
            frame: info.messages(),
            state: status.state,
            open: status.open,
            accepted: status.accepted,
            rejected: status.rejected,
            failing: status.failing.clone(),
            server: status.server.as_ref().map(|server| server.id.to_string()),
            host: status.server.as_ref().map(|server| server.name.clone()),
        }
    }
}

impl From<ServerCounts> for CountsJson {
    fn from(counts: ServerCounts) -> Self {
        let ServerCounts {
            accepted,
            rejected,
            open,
            served,
        } = counts;
        Self {
            accepted,
            rejected,
            open,
            served,
        }
    }
}
