//! An exchange, as `log --json` prints it.

use std::{str::FromStr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use echoic_core::{
    event::{Outcome, Role, TlsInfo},
    exchange::Exchange,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::problem::Problem;

/// A request with its reply: the object of `log --json`, without `time`, which is `t_us` as text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ExchangeJson {
    /// Its id in the store.
    pub(crate) id: u64,
    /// Id of its conversation.
    conv: u64,
    /// Its number in the conversation, from 1.
    n: u64,
    /// Short name of the endpoint.
    #[schema(example = "tcp:5000")]
    ep: String,
    /// Protocol of the endpoint.
    #[schema(example = "tcp")]
    proto: &'static str,
    /// The service that answered; empty in a client's record.
    #[schema(example = "upper")]
    svc: String,
    /// Whose record it is.
    #[schema(value_type = String, example = "server")]
    role: Role,
    /// Address of the peer.
    #[schema(example = "127.0.0.1:41234")]
    peer: String,
    /// What the TLS handshake of its conversation agreed on: `version`, `cipher`, `sni`, `alpn`, and `client` (subject and
    /// SHA-256 of its certificate), as far as there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    tls: Option<Arc<TlsInfo>>,
    /// Wall-clock time of the read, in microseconds since the Unix epoch.
    t_us: i64,
    /// Time from the read to the write, in nanoseconds.
    lat_ns: u64,
    /// Its outcome.
    #[schema(value_type = String, example = "ok")]
    outcome: Outcome,
    /// Reserved for planned faults.
    fault: Option<String>,
    /// The request.
    req: PartJson,
    /// The reply.
    rep: PartJson,
    /// Tags: automatic ones, then those that were added.
    tags: Vec<String>,
    /// Bytes of the conversation that made no message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    left: Option<Value>,
    /// The note, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    note: Option<String>,
}

/// The bytes of a request or a reply: as text if that is lossless, else in base64.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PartJson {
    /// Number of bytes, also if not all of them are here.
    len: usize,
    /// The bytes, if they are text in UTF-8 without a zero byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
    /// The bytes in base64 otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    b64: Option<String>,
    /// Number of reads, on the side that was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reads: Option<u32>,
    /// Number of writes, on the side that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    writes: Option<u32>,
    /// True if only the first bytes are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cut: Option<bool>,
}

/// Number of bytes of a request and of a reply that an answer has: a number, or `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Preview(usize);

impl Preview {
    /// All bytes.
    pub(crate) const FULL: Self = Self(usize::MAX);

    /// Returns the number of bytes that an answer has of an exchange.
    pub(crate) fn bytes_of(self, exchange: &Exchange) -> usize {
        exchange.request.len().min(self.0) + exchange.reply.len().min(self.0)
    }
}

impl Default for Preview {
    fn default() -> Self {
        Self(4096)
    }
}

impl FromStr for Preview {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "full" {
            return Ok(Self::FULL);
        }
        let invalid = |_| format!("invalid preview {text:?}: expected a number of bytes, or full");
        text.parse().map(Self).map_err(invalid)
    }
}

impl TryFrom<String> for Preview {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl ExchangeJson {
    /// Returns the object, with at most `preview` bytes of each side.
    pub(crate) fn new(exchange: &Exchange, preview: Preview) -> Result<Self, Problem> {
        let conversation = &exchange.conversation;
        let info = &conversation.endpoint_info;
        let reads = (Some(exchange.reads), None);
        let writes = (None, Some(exchange.borrow().writes()));
        let (of_request, of_reply) = match conversation.role {
            Role::Server => (reads, writes),
            Role::Client => (writes, reads),
        };
        let left = conversation.left_over().map(serde_json::to_value);
        let left = left.transpose().map_err(Problem::internal)?;
        Ok(Self {
            id: exchange.id,
            conv: conversation.id,
            n: exchange.n,
            ep: info.name.clone(),
            proto: info.proto.word(),
            svc: info.service.clone(),
            role: conversation.role,
            peer: conversation.remote.to_string(),
            tls: conversation.tls.clone(),
            t_us: exchange.at,
            lat_ns: exchange.latency_ns,
            outcome: exchange.outcome,
            fault: None,
            req: PartJson::new(&exchange.request, of_request, preview),
            rep: PartJson::new(&exchange.reply, of_reply, preview),
            tags: exchange.tags().map(str::to_owned).collect(),
            left,
            note: exchange.labels.note.clone(),
        })
    }
}

impl PartJson {
    fn new(
        bytes: &[u8],
        (reads, writes): (Option<u32>, Option<u32>),
        Preview(most): Preview,
    ) -> Self {
        let is_cut = bytes.len() > most;
        let here = &bytes[..bytes.len().min(most)];
        let text = match std::str::from_utf8(here) {
            Ok(text) => Some(text),
            // A character that the preview cuts is left out.
            Err(error) if is_cut && error.error_len().is_none() => {
                std::str::from_utf8(&here[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        let text = text.filter(|text| !text.contains('\0'));
        Self {
            len: bytes.len(),
            b64: text.is_none().then(|| BASE64_STANDARD.encode(here)),
            text: text.map(str::to_owned),
            reads,
            writes,
            cut: is_cut.then_some(true),
        }
    }
}

#[cfg(test)]
mod tests;
