//! The seam to a running server: what the web console may do with it.
//!
//! The console acts through [`Control`] alone, so that it can run in another process than the server, and so that all it can do is
//! listed here. A target is named by an id, never by an address: who uses the console cannot make echoic connect elsewhere.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    event::{Address, ConversationId, EndpointInfo, Micros, ServerInfo},
    framing::FramingPair,
    process::SeenProcess,
    service::BoxFuture,
};

use std::{sync::Arc, time::Duration};

/// Acts on a running server and tells its state.
pub trait Control: Send + Sync {
    /// Returns the endpoints in the order in which they were opened.
    fn endpoints(&self) -> Vec<EndpointStatus>;

    /// Returns the counts of the server.
    fn counts(&self) -> ServerCounts;

    /// Pauses, resumes or drains an endpoint, and returns its new status. Draining ends its conversations as a stop of the server
    /// does, and can be followed by [`Requested::Open`]; until no conversation is open, [`Requested::Paused`] changes nothing.
    fn set_endpoint(
        &self,
        id: EndpointId,
        state: Requested,
    ) -> BoxFuture<'_, Result<EndpointStatus, ControlError>>;

    /// Sends bytes to the peer of an open conversation, and records them as a reply without a request. Returns once they are
    /// queued behind earlier replies.
    fn send(
        &self,
        conversation: ConversationId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Closes an open conversation.
    fn close(
        &self,
        conversation: ConversationId,
        how: CloseHow,
    ) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Connects to a target, sends messages and waits for their replies. The call is real, and recorded once: by the server if the
    /// target is one of its endpoints, else as a client.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallResult, ControlError>>;

    /// Returns targets other than the server's endpoints that [`Control::call`] may connect to.
    fn targets(&self) -> Vec<TargetStatus>;

    /// Notes the socket calls of the next conversation that opens. A second call before that changes nothing.
    fn explain_next(&self) -> Result<(), ControlError>;

    /// Returns the socket calls of a conversation that was explained, oldest first; `None` if it was not. The newest
    /// explained conversations are kept.
    fn socket_calls(&self, conversation: ConversationId) -> Option<Vec<SocketCall>>;

    /// Returns the processes that belong together, as they were last seen: this one alone, unless others are known.
    fn processes(&self) -> Vec<SeenProcess> {
        Vec::new()
    }
}

/// Number of an endpoint of a server, from 1 in the order in which they were opened.
pub type EndpointId = u32;

/// The state of an endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its number.
    pub id: EndpointId,
    /// Name, protocol, service and framing.
    pub info: Arc<EndpointInfo>,
    /// The addresses it listens on.
    pub addresses: Vec<Address>,
    /// Whether it serves.
    pub state: EndpointState,
    /// Conversations that are open.
    pub open: u64,
    /// Conversations since the start, without rejected ones.
    pub accepted: u64,
    /// Connections rejected because of a limit or an access list.
    pub rejected: u64,
    /// Why its service can answer nobody now, as far as it is known.
    pub failing: Option<String>,
    /// The server that has it, where there may be several.
    pub server: Option<Arc<ServerInfo>>,
}

/// Whether an endpoint serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// It accepts and serves.
    Open,
    /// It accepts nothing: peers wait in the backlog, datagrams in the socket's buffer. Open conversations continue.
    Paused,
    /// It accepts nothing, and its conversations end once what they have received is answered. It is paused when none is open.
    Draining,
}

/// A requested state of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requested {
    /// Accept again.
    Open,
    /// Accept nothing for now.
    Paused,
    /// Accept nothing, and end the conversations.
    Draining,
}

/// Counts of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCounts {
    /// Conversations since the start, those of datagram peers included, without rejected ones.
    pub accepted: u64,
    /// Connections rejected because of a limit or an access list.
    pub rejected: u64,
    /// Conversations that are open, those of datagram peers included.
    pub open: u64,
    /// Exchanges served: recorded, waiting for the store, or lost. Without a store those of conversations that have ended.
    pub served: u64,
}

/// How to close a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloseHow {
    /// In order: FIN, after everything unsent.
    Fin,
    /// At once: RST. Only a TCP connection can be reset.
    Rst,
    /// Our half only (`shutdown(SHUT_WR)`), after everything unsent; what the peer sends is still read and recorded.
    Half,
}

/// A target of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// An endpoint of the server.
    Endpoint(EndpointId),
    /// Another one that the command line allows: its position in [`Control::targets`], from 1.
    Allowed(u32),
}

/// A target that the command line allows beside the server's endpoints.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    /// Its number, from 1.
    pub id: u32,
    /// Its URL.
    pub url: String,
}

/// A call to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// Where to.
    pub target: Target,
    /// Framing of what is sent and received; `None` for that of the endpoint.
    pub framing: Option<FramingPair>,
    /// The messages, without terminators or headers: the framing adds them.
    pub messages: Vec<Vec<u8>>,
    /// Pause between two messages.
    pub every: Duration,
    /// Longest wait for the reply to a message, and for the end.
    pub wait: Duration,
}

/// What became of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallResult {
    /// Its conversation in the store; `None` if it is not recorded.
    pub conversation: Option<ConversationId>,
    /// Each message with what was received in answer to it. Bytes received otherwise have no message.
    pub replies: Vec<CallReply>,
    /// How it ended, in words: a close reason, or an error.
    pub end: String,
}

/// A message of a call and its reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallReply {
    /// Bytes sent, framing included; empty for a greeting.
    pub request: Vec<u8>,
    /// Bytes received; empty if none came in time.
    pub reply: Vec<u8>,
    /// Time from the write to the read, in nanoseconds; `None` if no reply came.
    pub latency_ns: Option<u64>,
}

/// A call of the socket API with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SocketCall {
    /// Wall-clock time after the call.
    pub t_us: Micros,
    /// Its name: `recv`.
    pub call: &'static str,
    /// Its arguments as in C: `11, 65536`.
    pub args: String,
    /// What it returned: `6`, or an error: `EAGAIN`.
    pub result: String,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ControlError {
    /// There is no such endpoint, target or open conversation.
    #[error("there is no {0}")]
    NotFound(String),
    /// It cannot be done with this one.
    #[error("{0}")]
    Invalid(String),
    /// Too much is waiting to be sent or done.
    #[error("{0}")]
    Busy(String),
    /// The target could not be reached, or the conversation failed.
    #[error("{0}")]
    Failed(String),
    /// The server gave no answer in time, so that it is not known whether it was done.
    #[error("{0}")]
    TimedOut(String),
}
