//! What is recorded: events, in batches.
//!
//! A [`Batch`] is one growing buffer of bytes and a list of small events that point into it, so that recording
//! a run is two copies and a push, and an empty batch can be filled again without asking the allocator. A store
//! is handed whole batches; an exchange is a view of them ([`crate::exchange`]).
//!
//! This is a format: it crosses threads today and processes later. [`VERSION`] counts its changes.

use std::{
    fmt,
    net::{AddrParseError, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use serde::Serialize;

use crate::{
    ending::Ending,
    endpoint::{Endpoint, Shape, UnixName},
    framing::FramingPair,
    message::{Replies, Run},
};

/// Version of the event format, stored beside the events.
pub const VERSION: u32 = 1;

/// Names a conversation within one store; increasing.
pub type ConversationId = u64;

/// Names an exchange within one store; increasing in the order of recording. 0 is none.
pub type ExchangeId = u64;

/// Microseconds since the Unix epoch: fits JSON's 2^53 until the year 2255, nanoseconds would not today.
pub type Micros = i64;

/// Where somebody speaks from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An internet address and port.
    Net(SocketAddr),
    /// A Unix socket; most callers have none of their own to be named by.
    Unix(Option<UnixName>),
}

impl Address {
    /// The port, where there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Net(addr) => Some(addr.port()),
            Self::Unix(_) => None,
        }
    }

    /// The same as an endpoint that can be called, in the protocol of a [`EndpointInfo`].
    pub fn url(&self, proto: &str) -> String {
        match self {
            Self::Net(addr) => format!("{proto}://{addr}"),
            Self::Unix(Some(name)) => format!("{proto}:{name}"),
            Self::Unix(None) => format!("{proto}:"),
        }
    }

    /// Whether only this machine can be there.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Net(addr) => addr.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Net(addr)
    }
}

/// What [`Address`] prints, back again: the form a store keeps.
impl FromStr for Address {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        Ok(match text.strip_prefix("unix:") {
            None => Self::Net(text.parse()?),
            Some("") => Self::Unix(None),
            Some(name) => Self::Unix(Some(match name.strip_prefix('@') {
                Some(name) => UnixName::Abstract(name.to_owned()),
                None => UnixName::Path(name.into()),
            })),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(addr) => write!(f, "{addr}"),
            Self::Unix(Some(name)) => write!(f, "unix:{name}"),
            Self::Unix(None) => write!(f, "unix:"),
        }
    }
}

/// What is the same for all conversations at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointInfo {
    /// The short name that `ep:` finds: protocol and port, `tcp:5000`.
    pub name: String,
    /// `tcp`, `udp`, …
    pub proto: &'static str,
    /// The service that answers.
    pub service: String,
    /// How its stream is divided.
    pub framing: FramingPair,
}

impl EndpointInfo {
    /// What stands for a service where nobody of ours answered: the record is that of one who called.
    pub const CALLER: &'static str = "connect";

    /// What the record says of an endpoint that is at `address`. An inherited socket is named for what it is.
    pub fn new(
        endpoint: &Endpoint,
        address: &Address,
        shape: Shape,
        service: &str,
        framing: FramingPair,
    ) -> Self {
        let datagrams = shape == Shape::Datagrams;
        let proto = match (endpoint, address) {
            (Endpoint::Fd(_), Address::Net(_)) if datagrams => "udp",
            (Endpoint::Fd(_), Address::Unix(_)) if datagrams => "unixgram",
            (Endpoint::Fd(_), Address::Net(_)) => "tcp",
            (Endpoint::Fd(_), Address::Unix(_)) => "unix",
            _ => endpoint.scheme(),
        };
        let name = match address {
            Address::Net(addr) => format!("{proto}:{}", addr.port()),
            Address::Unix(Some(name)) => format!("{proto}:{name}"),
            Address::Unix(None) => proto.to_owned(),
        };
        Self {
            name,
            proto,
            service: service.to_owned(),
            framing,
        }
    }

    /// What a message is: as its framing says, or a datagram.
    pub fn messages(&self) -> String {
        match self.proto {
            "udp" | "unixgram" => "datagram".to_owned(),
            _ => self.framing.to_string(),
        }
    }

    /// Whether the one who records is the one who called: requests are then what was sent, replies what came.
    pub fn is_caller(&self) -> bool {
        self.service == Self::CALLER
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its name from here on.
    pub conversation: ConversationId,
    /// Wall clock at accept.
    pub at: Micros,
    /// The peer: who called, or was called.
    pub remote: Address,
    /// Our own end: where we were reached, or called from.
    pub local: Address,
    /// The endpoint.
    pub endpoint_info: Arc<EndpointInfo>,
}

/// `count` messages heard in one read with their replies. One clock reading at the read and one at the write,
/// hence one latency. Where there is a reply without a message (a greeting) or a message without a reply, the
/// other side is empty. In the record of one who called ([`EndpointInfo::is_caller`]) `request` is the request, which was sent,
/// and `reply` the reply, which came.
#[derive(Clone, Debug)]
pub struct RunEvent {
    /// The conversation.
    pub conversation: ConversationId,
    /// Id of the first exchange; the run takes `count` consecutive ones. 0 until the recorder has given it.
    pub id: ExchangeId,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
#[derive(Clone, Debug)]
pub struct Mark {
    /// The conversation; 0 for the server as a whole.
    pub conversation: ConversationId,
    /// Wall clock.
    pub at: Micros,
    /// What happened.
    pub what: Marked,
}

/// What a [`Mark`] marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub struct Ended {
    /// The conversation.
    pub conversation: ConversationId,
    /// Wall clock.
    pub at: Micros,
    /// How.
    pub ending: Ending,
}

/// A part of a batch's bytes, or of its lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    start: usize,
    len: usize,
}

impl Slice {
    /// How long.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Events in the order in which they happened, with the bytes they speak of.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The events.
    pub events: Vec<Event>,
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    exchanges: u64,
}

/// What a conversation knows of a run when it records it.
#[derive(Clone, Copy, Debug)]
pub struct RunMeta {
    /// The conversation.
    pub conversation: ConversationId,
    /// Number of its first exchange, from 1.
    pub n: u64,
    /// Wall clock at the read.
    pub at: Micros,
    /// From read to write, nanoseconds.
    pub latency_ns: u64,
    /// Reads the first message took.
    pub reads: u32,
    /// Offset of what is said in all that was said.
    pub reply_offset: u64,
}

impl Batch {
    /// Records a run and its replies, which are [`Replies::exchanges`] exchanges. What the service left unanswered
    /// becomes an event of its own, and so does what it said without answering anything: one event, one outcome.
    pub fn run(&mut self, told: RunMeta, run: &Run<'_>, replies: &Replies) {
        let answered = replies.answered().min(run.len());
        let said_alone = answered == 0 && !replies.bytes().is_empty();
        let (first, rest) = run
            .raw()
            .split_at(run.lengths().take(answered).map(|len| len as usize).sum());
        if answered > 0 || said_alone {
            let pairs = run
                .lengths()
                .zip(replies.lengths())
                .flat_map(|(request, reply)| [request, reply]);
            let lengths = if answered > 1 {
                self.push_lengths(pairs)
            } else {
                Slice::default()
            };
            self.push(
                told,
                answered.max(1),
                Outcome::Ok,
                first,
                replies.bytes(),
                lengths,
            );
        }
        let recorded = answered + usize::from(said_alone);
        let left = run.len() - answered;
        if left > 0 {
            let told = RunMeta {
                n: told.n + recorded as u64,
                reads: if answered == 0 { told.reads } else { 1 },
                reply_offset: told.reply_offset + replies.bytes().len() as u64,
                ..told
            };
            let pairs = run
                .lengths()
                .skip(answered)
                .flat_map(|request| [request, 0]);
            let lengths = if left > 1 {
                self.push_lengths(pairs)
            } else {
                Slice::default()
            };
            self.push(told, left, Outcome::Unanswered, rest, &[], lengths);
        }
    }

    /// Records one exchange whose sides are not a run: a greeting, a late reply, a message that
    /// was never answered.
    pub fn exchange(&mut self, told: RunMeta, outcome: Outcome, request: &[u8], reply: &[u8]) {
        self.push(told, 1, outcome, request, reply, Slice::default());
    }

    fn push(
        &mut self,
        told: RunMeta,
        count: usize,
        outcome: Outcome,
        request: &[u8],
        reply: &[u8],
        lengths: Slice,
    ) {
        let RunMeta {
            conversation,
            n,
            at,
            latency_ns,
            reads,
            reply_offset,
        } = told;
        let (request, reply) = (self.copy(request), self.copy(reply));
        self.exchanges += count as u64;
        self.events.push(Event::Run(RunEvent {
            conversation,
            id: 0,
            n,
            count: count as u32,
            at,
            latency_ns,
            outcome,
            reads,
            reply_offset,
            request,
            reply,
            lengths,
        }));
    }

    fn push_lengths(&mut self, lengths: impl Iterator<Item = u32>) -> Slice {
        let start = self.lengths.len();
        self.lengths.extend(lengths);
        Slice {
            start,
            len: self.lengths.len() - start,
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Slice {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Slice {
            start,
            len: bytes.len(),
        }
    }

    /// The bytes a slice stands for.
    pub fn bytes(&self, slice: Slice) -> &[u8] {
        &self.bytes[slice.start..slice.start + slice.len]
    }

    /// The lengths a slice stands for: heard and said of each exchange, alternating.
    pub fn lengths(&self, slice: Slice) -> &[u32] {
        &self.lengths[slice.start..slice.start + slice.len]
    }

    /// Exchanges in it.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Roughly what it holds in memory, in bytes: the figure that back-pressure is reckoned in.
    pub fn size(&self) -> usize {
        self.bytes.len()
            + self.lengths.len() * size_of::<u32>()
            + self.events.len() * size_of::<Event>()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Empties it, to be filled again. Room beyond `keep` bytes is given back.
    pub fn clear(&mut self, keep: usize) {
        self.events.clear();
        self.bytes.clear();
        self.lengths.clear();
        self.exchanges = 0;
        self.bytes.shrink_to(keep);
        self.events.shrink_to(keep / size_of::<Event>());
        self.lengths.shrink_to(keep / size_of::<u32>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Framing, Splitter};

    type Recorded = (u64, u32, Outcome, Vec<u8>, Vec<u8>);

    fn record(answer: usize, say: bool) -> Vec<Recorded> {
        let (bytes, mut spans) = (b"a\nbb\nccc\n", Vec::new());
        Splitter::new(Framing::Line, 9).split(bytes, &mut spans);
        let run = Run::new(bytes, &spans, 0);
        let mut replies = Replies::default();
        replies.clear(Framing::Line.into());
        if say {
            replies.push(b"!");
        }
        for message in run.messages().take(answer) {
            replies.reply(&message, |out| out.extend(message.body));
        }
        let told = RunMeta {
            conversation: 1,
            n: 1,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        let mut batch = Batch::default();
        batch.run(told, &run, &replies);
        assert_eq!(replies.exchanges(&run), batch.exchanges());
        let runs = batch.events.iter().map(|event| match event {
            Event::Run(run) => (
                run.n,
                run.count,
                run.outcome,
                batch.bytes(run.request).to_vec(),
                batch.bytes(run.reply).to_vec(),
            ),
            other => panic!("{other:?}"),
        });
        runs.collect()
    }

    #[test]
    fn run_is_recorded_as_one_event_per_outcome() {
        let all = (
            1,
            3,
            Outcome::Ok,
            b"a\nbb\nccc\n".to_vec(),
            b"a\nbb\nccc\n".to_vec(),
        );
        assert_eq!(record(3, false), [all]);
        let answered = (1, 1, Outcome::Ok, b"a\n".to_vec(), b"a\n".to_vec());
        let left = (2, 2, Outcome::Unanswered, b"bb\nccc\n".to_vec(), vec![]);
        assert_eq!(record(1, false), [answered, left]);
        let reply = (1, 1, Outcome::Ok, vec![], b"!".to_vec());
        let unanswered = (2, 3, Outcome::Unanswered, b"a\nbb\nccc\n".to_vec(), vec![]);
        assert_eq!(record(0, true), [reply, unanswered]);
    }
}
