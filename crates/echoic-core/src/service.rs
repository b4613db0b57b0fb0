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

/// A boxed future, for the two seams behind which another process may stand.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What answers at an endpoint. All conversations share it; each gets a handler of its own.
pub trait Service: Send + Sync + fmt::Debug {
    /// Its name on the command line, in the record and in filters.
    fn name(&self) -> &str;

    /// Returns a handler for one conversation.
    fn handler(&self, peer: &Peer) -> Handler;

    /// Whether its replies may be longer than its requests, whatever these are. Over UDP the address of a peer is easily
    /// forged, and such a service could be used to flood others: it is refused there unless that was asked for. A service
    /// whose replies are longer only now and then (`upper`) returns false; that one reply is withheld.
    fn amplifies(&self) -> bool {
        false
    }
}

/// The other end of a conversation, as far as a service may know it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The conversation.
    pub conversation: ConversationId,
    /// The address of the peer.
    pub remote: Address,
    /// Our own address, as the peer reached it.
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

/// What answers one conversation.
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

/// Turns messages into the replies to them; returns whether it did.
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
    /// The conversation begins: send something first, if that is what the service does.
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        let _ = out;
        ControlFlow::Continue(())
    }

    /// Answers the messages of a run in order. Must not block: a worker's other conversations wait for it.
    ///
    /// `Continue` goes on with the next message; messages of the run without a reply are answered by silence. `Break`
    /// sends the replies so far and then ends the stream; messages of the run without a reply stay unanswered.
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()>;

    /// The fast path, for a handler whose replies are as long as their messages. Returns a function that turns any
    /// number of whole messages, with what ends each, into their replies; the terminators must stay as they are. Where
    /// the requests are not needed any more it changes the read buffer itself, otherwise a copy.
    ///
    /// Asked for before each read is answered, and only used where replies are framed as messages are and no length
    /// stands before them. If the function returns false, [`Self::answer`] is called with the bytes as it left them, and
    /// its replies must be those to the original bytes.
    fn in_place(&self) -> Option<InPlace> {
        None
    }

    /// The peer has ended its half of the stream: send what was held back.
    fn finish(&mut self, out: &mut Replies) {
        let _ = out;
    }
}

/// Why a handler could not go on. Its conversation ends as `service-failed`; others are not affected.
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
