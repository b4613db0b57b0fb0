//! A conversation.

use std::sync::Arc;

use echoic_core::{
    event::{Mark, Marked, Micros, Role, TlsInfo},
    exchange::Conversation,
    store::{ListedConversation, MessageBytes},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::problem::Problem;

/// A conversation, from its opening to its end.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ConversationJson {
    /// Its id.
    pub(crate) conv: u64,
    /// Wall-clock time of its opening, in microseconds since the Unix epoch.
    opened_us: i64,
    /// When the peer ended its half of the stream, if it did.
    half_us: Option<i64>,
    /// When it ended.
    ended_us: Option<i64>,
    /// Short name of the endpoint.
    #[schema(example = "tcp:5000")]
    ep: String,
    /// Protocol of the endpoint.
    #[schema(example = "tcp")]
    proto: &'static str,
    /// The service that answers; empty in a client's record.
    #[schema(example = "upper")]
    svc: String,
    /// The framing of the stream, or `datagram`.
    #[schema(example = "line")]
    frame: String,
    /// Whose record it is.
    #[schema(value_type = String, example = "server")]
    role: Role,
    /// Address of the peer.
    peer: String,
    /// Our own address.
    local: String,
    /// The server that recorded it.
    server: ServerJson,
    /// Its state: open, half-closed (the peer has ended its half) or ended.
    #[schema(example = "ended")]
    state: &'static str,
    /// Class of its close reason, as `end:` finds it.
    end: Option<&'static str>,
    /// Its close reason.
    reason: Option<&'static str>,
    /// Number of its exchanges, including those removed since.
    exchanges: u64,
    /// Bytes of the requests of these exchanges so far; null once it has ended.
    request_bytes: Option<u64>,
    /// Bytes of their replies so far; null once it has ended.
    reply_bytes: Option<u64>,
    /// Bytes read from the peer. Known when it has ended, as are the next three.
    received: Option<u64>,
    /// Bytes that the kernel accepted for the peer.
    sent: Option<u64>,
    /// Bytes of replies that were not sent.
    unsent: Option<u64>,
    /// Bytes read after the end and discarded.
    discarded: Option<u64>,
    /// What its TLS handshake agreed on, or why it failed: `version`, `cipher`, `sni`, `alpn`, `client` (subject and SHA-256
    /// of its certificate) and `failure`, as far as they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    tls: Option<Arc<TlsInfo>>,
    /// Bytes that made no message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    left: Option<Value>,
    /// Its own tags.
    tags: Vec<String>,
    /// Its note, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    note: Option<String>,
}

/// A server that records.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ServerJson {
    /// Id of its start.
    id: String,
    /// Its host and process.
    name: String,
}

/// An event of a conversation beside its exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct MarkJson {
    /// Wall-clock time.
    t_us: i64,
    /// What happened: half-closed, gap, dropped or silenced.
    #[schema(example = "half-closed")]
    what: &'static str,
    /// Bytes received before the peer ended its half.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    received: Option<u64>,
    /// Number of exchanges or datagrams that are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    n: Option<u64>,
    /// How long replies are withheld, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    for_us: Option<u64>,
}

impl ConversationJson {
    pub(crate) fn new(listed: &ListedConversation) -> Result<Self, Problem> {
        Self::of(&listed.conversation, listed.exchanges, listed.so_far)
    }

    /// Of a conversation with this number of exchanges, and the bytes of these so far.
    pub(crate) fn of(
        conversation: &Conversation,
        exchanges: u64,
        so_far: Option<MessageBytes>,
    ) -> Result<Self, Problem> {
        let info = &conversation.endpoint_info;
        let ending = conversation.ended.as_ref().map(|(_, ending)| ending);
        let left = conversation.left_over().map(serde_json::to_value);
        let left = left.transpose().map_err(Problem::internal)?;
        Ok(Self {
            conv: conversation.id,
            opened_us: conversation.opened,
            half_us: conversation.half_closed,
            ended_us: conversation.ended.as_ref().map(|(at, _)| *at),
            ep: info.name.clone(),
            proto: info.proto.word(),
            svc: info.service.clone(),
            frame: info.messages(),
            role: conversation.role,
            peer: conversation.remote.to_string(),
            local: conversation.local.to_string(),
            server: ServerJson {
                id: conversation.server.id.to_string(),
                name: conversation.server.name.clone(),
            },
            state: match (ending, conversation.half_closed) {
                (Some(_), _) => "ended",
                (None, Some(_)) => "half-closed",
                (None, None) => "open",
            },
            end: ending.map(|ending| ending.reason.class()),
            reason: ending.map(|ending| ending.reason.word()),
            exchanges,
            request_bytes: so_far.map(|bytes| bytes.requests),
            reply_bytes: so_far.map(|bytes| bytes.replies),
            received: ending.map(|ending| ending.received),
            sent: ending.map(|ending| ending.sent),
            unsent: ending.map(|ending| ending.unsent),
            discarded: ending.map(|ending| ending.discarded),
            tls: conversation.tls.clone(),
            left,
            tags: conversation.labels.tags.clone(),
            note: conversation.labels.note.clone(),
        })
    }
}

impl From<&Mark> for MarkJson {
    fn from(mark: &Mark) -> Self {
        let (what, received, n, for_us) = match mark.what {
            Marked::HalfClosed { received } => ("half-closed", Some(received), None, None),
            Marked::Gap { exchanges, .. } => ("gap", None, Some(exchanges), None),
            Marked::Dropped { datagrams } => ("dropped", None, Some(datagrams), None),
            Marked::Silenced { for_us } => ("silenced", None, None, Some(for_us)),
        };
        let t_us: Micros = mark.at;
        Self {
            t_us,
            what,
            received,
            n,
            for_us,
        }
    }
}
