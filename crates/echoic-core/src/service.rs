//! The seam to processing: messages in, replies out.
//!
//! Two kinds, because two things are asked of a service. An [`InlineHandler`] one answers at once, in the
//! conversation's own loop: no future, no queue, no allocation, so upper-casing a message costs nanoseconds.
//! An [`SpawnedHandler`] one runs beside the loop and may wait for anything: a child process, another server, a person.
//! Making every service the second kind was refused, since it costs each message two hand-overs; making every
//! one the first was refused, since a service that waits would stop its whole worker.

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

/// A boxed future, for the two seams behind which another process may stand.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What answers at an endpoint. One is shared by all conversations; each gets a voice of its own.
pub trait Service: Send + Sync + fmt::Debug {
    /// The word for it on the command line, in the record and in filters.
    fn name(&self) -> &str;

    /// A voice for one conversation.
    fn handler(&self, peer: &Peer) -> Handler;

    /// Whether it may say more than it hears, whatever it hears. Over UDP a caller's address is easily forged, and such
    /// a service would be a means to flood others: it is refused there unless that was asked for. One that only now and
    /// then says more (`upper`) need not say so here, that reply alone is withheld.
    fn amplifies(&self) -> bool {
        false
    }
}

/// Who is at the other end, as far as a service may know.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The conversation.
    pub conversation: ConversationId,
    /// Where the peer speaks from.
    pub remote: Address,
    /// Where it reached us.
    pub local: Address,
    /// How messages are divided. Under `chunk` a character may go on in the next message.
    pub framing: FramingPair,
    /// How bytes travel, as the link has it. What travels in messages has no other framing (`chunk`).
    pub shape: Shape,
}

impl Peer {
    /// Whether a message is whole; if not, a character may go on in the next.
    pub fn speaks_in_messages(&self) -> bool {
        self.shape != Shape::Stream || self.framing.inbound.is_declared()
    }
}

/// One conversation's side of a service.
#[expect(
    missing_debug_implementations,
    reason = "the boxes inside belong to the services"
)]
pub enum Handler {
    /// Answers within the loop.
    Inline(Box<dyn InlineHandler>),
    /// Answers from a task of its own.
    Spawned(Box<dyn SpawnedHandler>),
}

/// Changes messages into the replies to them, or says that it did not.
pub type InPlace = fn(&mut [u8]) -> bool;

/// A service that answers at once.
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
    /// The conversation begins: say something first, if that is what the service does.
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        let _ = out;
        ControlFlow::Continue(())
    }

    /// Answers the messages of a run in order. Must not block: a worker's other conversations wait for it.
    ///
    /// `Continue` goes on with the next message; messages of the run without a reply are answered by silence. `Break`
    /// sends the replies so far and then ends the stream; messages of the run without a reply stay unanswered.
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()>;

    /// What turns messages into their replies where they lie, if its replies are as long as its messages: the short
    /// way for bytes that nobody needs any more as they were. It is handed whole messages, one behind the other,
    /// with what ends each, which must stay as it is, and says whether it did. Asked for before each read is answered,
    /// and only where replies are framed as their messages were and no length stands before them. [`Self::answer`]
    /// takes its turn with the same bytes where this did not, and must come to what it would have come to without it.
    fn in_place(&self) -> Option<InPlace> {
        None
    }

    /// The peer has said its last: say what was held back.
    fn finish(&mut self, out: &mut Replies) {
        let _ = out;
    }
}

/// A service could not go on. The conversation ends with what this says; others do not notice.
#[derive(Debug)]
pub struct ServiceError(pub Box<dyn Error + Send + Sync>);

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service gave up: {}", self.0)
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
