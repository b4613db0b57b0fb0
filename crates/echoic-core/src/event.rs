//! What is recorded: events, in batches.
//!
//! A [`Batch`] is one growing buffer of bytes and a list of small events that point into it, so that recording
//! a run is two copies and a push, and an empty batch can be filled again without asking the allocator. A store
//! is handed whole batches; an exchange is a view of them ([`crate::exchange`]).
//!
//! This is a format: it crosses threads today and processes later. [`VERSION`] counts its changes.

mod address;
mod batch;
mod endpoint_info;
mod server;
mod text;
mod wire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

#[doc(hidden)]
pub use self::wire::check;
pub use self::{
    address::Address,
    batch::{Batch, RunMeta, Slice},
    endpoint_info::{EndpointInfo, Protocol, Role, UnknownWord},
    server::{BatchId, Server, ServerId},
};
use crate::ending::Ending;

/// Version of the event format, stored beside the events.
pub const VERSION: u32 = 2;

/// Names a conversation within one server ([`Server`]), increasing; in a store of one file within that. 0 is none.
pub type ConversationId = u64;

/// Names an exchange within one store, which gives it on commit: increasing in the order of commits. 0 is none, or none
/// yet.
pub type ExchangeId = u64;

/// Hands out the ids of a batch's runs in event order: the id of `run`'s first exchange, where `next` is the id of the
/// first one that has none yet. Without ids (0) there are none.
pub fn take_ids(next: &mut ExchangeId, run: &RunEvent) -> ExchangeId {
    let first = *next;
    if first > 0 {
        *next += u64::from(run.count);
    }
    first
}

/// Microseconds since the Unix epoch: fits JSON's 2^53 until the year 2255, nanoseconds would not today.
pub type Micros = i64;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A conversation began.
    Opened(Opened),
    /// Messages were heard and answered, or one of the two alone.
    Run(RunEvent),
    /// Something else worth remembering at a point of a conversation.
    Mark(Mark),
    /// A conversation ended.
    Ended(Ended),
}

/// A conversation began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its name from here on.
    pub conversation: ConversationId,
    /// Wall clock at accept.
    pub at: Micros,
    /// The peer: who called, or was called.
    pub remote: Address,
    /// Our own end: where we were reached, or called from.
    pub local: Address,
    /// Whose record it is.
    pub role: Role,
    /// The endpoint.
    pub endpoint_info: Arc<EndpointInfo>,
}

/// `count` messages heard in one read with their replies. One clock reading at the read and one at the write,
/// hence one latency. Where there is a reply without a message (a greeting) or a message without a reply, the
/// other side is empty. In a client's record ([`Role::Client`]) the request was sent and the reply was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvent {
    /// The conversation.
    pub conversation: ConversationId,
    /// Number of the first exchange in its conversation, from 1.
    pub n: u64,
    /// How many exchanges; never 0.
    pub count: u32,
    /// Wall clock at the read that completed the first message (or at the saying, where nothing was heard).
    pub at: Micros,
    /// From the read to the write, in nanoseconds.
    pub latency_ns: u64,
    /// Whether the messages were answered.
    pub outcome: Outcome,
    /// In how many reads the first message came; those after it came in one.
    pub reads: u32,
    /// Offset of `reply` in all that the conversation has said; with [`Ending::sent`] it tells what truly left.
    pub reply_offset: u64,
    /// The messages as they came.
    pub request: Slice,
    /// The replies as they went.
    pub reply: Slice,
    /// Lengths of heard and said of each exchange, alternating, in [`Batch::lengths`]; empty if `count` is 1.
    pub lengths: Slice,
}

/// The outcome of an exchange, as far as it was known when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Answered. No reply at all may be the answer.
    Ok,
    /// The request was received, and the conversation ended before it was answered.
    Unanswered,
    /// A rule for datagrams forbade to send the reply: it was longer than its request, its destination is not allowed
    /// (a port below 1024, this server itself), or the two peers answer each other in a loop.
    Withheld,
    /// The reply was not sent in full: the conversation ended first, or the system refused the datagram (too long, no
    /// such peer). In a client's record: a request that was not sent in full.
    Unsent,
}

/// A point in a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The conversation; 0 for the server as a whole.
    pub conversation: ConversationId,
    /// Wall clock.
    pub at: Micros,
    /// What happened.
    pub what: Marked,
}

/// What a [`Mark`] marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marked {
    /// The peer ended its half of the stream (FIN) after so many bytes.
    HalfClosed {
        /// Bytes heard before it.
        received: u64,
    },
    /// Recording was interrupted: so many exchanges were served and not recorded since then.
    Gap {
        /// Exchanges lost.
        exchanges: u64,
        /// Wall clock of the first of them.
        since: Micros,
    },
    /// Datagrams came faster than they were taken, and the kernel dropped so many since this was last said.
    Dropped {
        /// How many.
        datagrams: u64,
    },
    /// The same datagram came again and again, as between two servers that answer each other: nothing more is said
    /// to this peer for a while.
    Silenced {
        /// For so long, in microseconds.
        for_us: u64,
    },
}

/// A conversation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The conversation.
    pub conversation: ConversationId,
    /// Wall clock.
    pub at: Micros,
    /// How.
    pub ending: Ending,
}
