//! Events, and batches of them: the format of the record.
//!
//! A [`Batch`] is one growing buffer of bytes and a list of small events that point into it, so that recording
//! a run is two copies and a push, and an empty batch can be reused without allocation. A store appends whole batches; an
//! exchange is a view of them ([`crate::exchange`]).
//!
//! This is a format, which can cross processes. [`VERSION`] counts its changes.

mod address;
mod batch;
mod binary;
mod endpoint_info;
mod server;
mod text;
mod tls;
mod wire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

#[doc(hidden)]
pub use self::wire::check;
pub use self::{
    address::Address,
    batch::{Batch, RunMeta, Slice},
    binary::InvalidBatch,
    endpoint_info::{EndpointInfo, Protocol, Role, UnknownWord},
    server::{BatchId, ServerId, ServerInfo},
    tls::{ClientCertificate, SUBJECT_BYTES_MAX, TlsInfo},
};
use crate::ending::Ending;

/// Version of the event format, stored beside the events.
pub const VERSION: u32 = 2;

/// Id of a conversation: increasing, and unique within a store; without a store, within one start of the recorder
/// ([`ServerInfo`]). 0 is no conversation.
pub type ConversationId = u64;

/// Identifies an exchange within one store, which assigns it on commit, in the order of commits. 0 is none, or none yet.
pub type ExchangeId = u64;

/// Returns the id of the first exchange of `run` and advances `next`, the next free id, over the run. To be called for the
/// runs of a batch in event order. Without ids (0) it returns 0.
pub fn take_ids(next: &mut ExchangeId, run: &RunEvent) -> ExchangeId {
    let first = *next;
    if first > 0 {
        *next += u64::from(run.count);
    }
    first
}

/// Microseconds since the Unix epoch: fits JSON's 2^53 until the year 2255, nanoseconds exceed it today.
pub type Micros = i64;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A conversation opened.
    Opened(Opened),
    /// Requests with their replies, or one of the two alone.
    Run(RunEvent),
    /// Another event of a conversation, or of the server.
    Mark(Mark),
    /// A conversation ended.
    Ended(Ended),
}

/// A conversation opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its id.
    pub conversation: ConversationId,
    /// Wall-clock time of accept.
    pub at: Micros,
    /// The peer's address.
    pub remote: Address,
    /// Our own address.
    pub local: Address,
    /// Role of the recording side.
    pub role: Role,
    /// The endpoint.
    pub endpoint_info: Arc<EndpointInfo>,
    /// What its TLS handshake agreed on, if it has TLS.
    #[serde(default)]
    pub tls: Option<Arc<TlsInfo>>,
}

/// `count` requests received in one read, with their replies. The clock is read once at the read and once at the write, so
/// all exchanges have the same latency. For a reply without a request (a greeting) or a request without a reply, the other
/// side is empty. In a client's record ([`Role::Client`]) the request was sent and the reply was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvent {
    /// The conversation.
    pub conversation: ConversationId,
    /// Number of the first exchange in its conversation, from 1.
    pub n: u64,
    /// Number of exchanges; never 0.
    pub count: u32,
    /// Wall-clock time of the read that completed the first request (or of the reply, if there is no request).
    pub at: Micros,
    /// Time from the read to the write, in nanoseconds.
    pub latency_ns: u64,
    /// Outcome of all its exchanges.
    pub outcome: Outcome,
    /// Number of reads that the first request took; later ones took one.
    pub reads: u32,
    /// Offset of `reply` in all reply bytes of the conversation. With [`Ending::sent`] it determines which replies were sent.
    pub reply_offset: u64,
    /// Bytes of the requests.
    pub request: Slice,
    /// Bytes of the replies.
    pub reply: Slice,
    /// Lengths of request and reply of each exchange, alternating, in [`Batch::lengths`]; empty if `count` is 1.
    pub lengths: Slice,
}

/// The outcome of an exchange, as far as it was known when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Answered; the reply may be empty.
    Ok,
    /// The request was received, and the conversation ended before it was answered, or our half had been ended by an operator.
    Unanswered,
    /// A rule for datagrams forbade to send the reply: it was longer than its request, its destination is not allowed
    /// (a port below 1024, this server itself), or the two peers answer each other in a loop.
    Withheld,
    /// The reply was not sent in full: the conversation ended first, or the system refused the datagram (too long, no
    /// such peer). In a client's record: a request that was not sent in full.
    Unsent,
    /// In a client's record of datagrams: a reply arrived that may answer this request or another one, so whether it was
    /// answered is not known. The reply is an exchange without a request.
    Unpaired,
}

impl Outcome {
    /// Its word in the store, in JSON and in the filter `is:`. A format: words are added, never changed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unanswered => "unanswered",
            Self::Withheld => "withheld",
            Self::Unsent => "unsent",
            Self::Unpaired => "unpaired",
        }
    }
}

/// An event of a conversation with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The conversation; 0 for the server as a whole.
    pub conversation: ConversationId,
    /// Wall-clock time.
    pub at: Micros,
    /// What happened.
    pub what: Marked,
}

/// The kinds of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marked {
    /// The peer ended its half of the stream (FIN).
    HalfClosed {
        /// Bytes received before it.
        received: u64,
    },
    /// Exchanges were served and not recorded.
    Gap {
        /// Number of exchanges lost.
        exchanges: u64,
        /// Wall-clock time of the first of them.
        since: Micros,
    },
    /// Datagrams arrived faster than they were read, and the kernel dropped some.
    Dropped {
        /// Number dropped since the last such mark.
        datagrams: u64,
    },
    /// The same datagram arrived repeatedly, as between two servers that answer each other: replies to this peer are
    /// withheld for a while.
    Silenced {
        /// Duration in microseconds.
        for_us: u64,
    },
}

/// A conversation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The conversation.
    pub conversation: ConversationId,
    /// Wall-clock time.
    pub at: Micros,
    /// Its close reason and byte counts.
    pub ending: Ending,
}

impl Ended {
    /// Returns the number of its left-over bytes that are kept.
    fn left_over_bytes(&self) -> usize {
        let left_over = self.ending.left_over.as_ref();
        left_over.map_or(0, |left_over| left_over.bytes.len())
    }
}
