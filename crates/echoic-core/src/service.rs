//! Services: messages in, replies out.
//!
//! There are two kinds of handlers. An [`InlineHandler`] answers at once, in the conversation's own loop: no future, no
//! queue, no allocation, so upper-casing a message costs nanoseconds. A [`SpawnedHandler`] runs in a task of its own and
//! may wait for anything: a child process, another server, a person. If every handler were spawned, each message would
//! cost two hand-overs; if every one were inline, one that waits would stop its whole worker.

mod spawned;

use std::{error::Error, fmt, future::Future, ops::ControlFlow, pin::Pin};

use crate::{
    endpoint::Shape,
    event::{Address, ConversationId},
    framing::FramingPair,
    message::{Replies, Run},
};

pub use self::spawned::{
    PeerGone, QUEUE_BYTES, Reply, ReplyReceiver, ReplySender, RequestReceiver, RequestRun,
    RequestSender, SendError, SpawnedHandler, close, queues,
};

/// A boxed future, for the seams whose implementation may be another process.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A service, which answers at an endpoint. All conversations share it; each has its own handler.
pub trait Service: Send + Sync + fmt::Debug {
    /// Returns its name on the command line, in the record and in filters.
    fn name(&self) -> &str;

    /// Returns a handler for one conversation.
    fn handler(&self, peer: &Peer) -> Handler;

    /// Whether its replies are generally longer than its requests. Over UDP the address of a peer is easily forged, and such
    /// a service could be used to flood others, so it is rejected there unless allowed explicitly. A service whose replies
    /// are only sometimes longer (`upper`) returns false; such a reply is withheld.
    fn amplifies(&self) -> bool {
        false
    }

    /// Whether any process that has this service may answer any run of a conversation: its handlers are inline, depend on
    /// nothing but the peer, the run and [`InlineHandler::state`], and to answer a run twice does no harm. Then the runs of
    /// a conversation may go to different workers, and to another one if a worker dies.
    fn is_portable(&self) -> bool {
        false
    }

    /// Why no handler can answer now, as far as it is known: the service depends on others that are not there. It is told to
    /// whoever watches the server, so it names no password.
    fn failing(&self) -> Option<String> {
        None
    }
}

/// The peer of a conversation, as a service sees it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The conversation.
    pub conversation: ConversationId,
    /// The address of the peer.
    pub remote: Address,
    /// Our own address, as the peer reached it.
    pub local: Address,
    /// Framing of messages. Under `chunk` a character may continue in the next message.
    pub framing: FramingPair,
    /// Shape of the link. A link that preserves messages has no other framing (`chunk`).
    pub shape: Shape,
}

impl Peer {
    /// Whether each message is whole. If not, a character may continue in the next one.
    pub fn has_whole_messages(&self) -> bool {
        self.shape != Shape::Stream || self.framing.inbound.is_declared()
    }
}

/// The handler of one conversation.
#[expect(
    missing_debug_implementations,
    reason = "the boxes inside belong to the services"
)]
pub enum Handler {
    /// Answers within the loop of the conversation.
    Inline(Box<dyn InlineHandler>),
    /// Answers from its own task.
    Spawned(Box<dyn SpawnedHandler>),
}

/// Replaces messages by their replies; returns whether it did.
pub type InPlace = fn(&mut [u8]) -> bool;

/// A handler that answers at once.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use echoic_core::{message::{Replies, Run}, service::InlineHandler};
///
/// struct Reverse;
///
/// impl InlineHandler for Reverse {
///     fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
///         for message in run.messages() {
///             out.reply(&message, |bytes| bytes.extend(message.body.iter().rev()));
///         }
///         ControlFlow::Continue(())
///     }
/// }
/// ```
pub trait InlineHandler: Send {
    /// Called when the conversation opens, for a service that sends first.
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        let _ = out;
        ControlFlow::Continue(())
    }

    /// Answers the messages of a run in order. Must not block: a worker's other conversations wait for it.
    ///
    /// `Continue` goes on with the next message; messages of the run without a reply get an empty reply. `Break`
    /// sends the replies so far and then ends the stream; messages of the run without a reply stay unanswered.
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()>;

    /// The fast path, for a handler whose replies are as long as their messages. Returns a function that turns any
    /// number of whole messages, with what ends each, into their replies; the terminators must stay as they are. Where
    /// the requests are not needed any more it changes the read buffer itself, otherwise a copy.
    ///
    /// Asked for before each read is answered, and only used where replies are framed as messages are and no length
    /// stands before them. If the function returns false, [`Self::answer`] is called with the bytes as it left them. So it
    /// may change bytes before it returns false only where `answer` replies to the changed bytes as to the original ones:
    /// `upper` may have changed letters to upper case.
    fn in_place(&self) -> Option<InPlace> {
        None
    }

    /// Called when the peer has ended its half of the stream: sends what was held back.
    fn input_ended(&mut self, out: &mut Replies) {
        let _ = out;
    }

    /// Appends what later answers depend on of the runs so far, at most [`STATE_BYTES_MAX`] bytes: another handler goes on
    /// from it, perhaps in another process. Nothing, if each run is answered by itself. Matters for a service that
    /// [is portable](Service::is_portable).
    fn state(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Goes on from the [`state`](Self::state) of another handler of the same service and peer. Returns false if the bytes are
    /// no such state; then nothing is changed.
    fn restore(&mut self, state: &[u8]) -> bool {
        state.is_empty()
    }
}

/// Longest state of a handler in bytes.
pub const STATE_BYTES_MAX: usize = 4 << 10;

/// No worker has answered in time, so the conversation ends as `worker-lost`. The error of a spawned handler whose service
/// runs in other processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLost {
    /// What was tried, for the log.
    pub why: String,
}

impl fmt::Display for WorkerLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Error for WorkerLost {}

impl From<WorkerLost> for ServiceError {
    fn from(lost: WorkerLost) -> Self {
        Self(Box::new(lost))
    }
}

/// Why a handler failed. Its conversation ends as `service-failed`; others are not affected.
#[derive(Debug)]
pub struct ServiceError(pub Box<dyn Error + Send + Sync>);

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service failed: {}", self.0)
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
