//! The seam to processing: messages in, replies out.
//!
//! Two kinds, because two things are asked of a service. An [`InlineHandler`] one answers at once, in the
//! conversation's own loop: no future, no queue, no allocation, so upper-casing a message costs nanoseconds.
//! An [`SpawnedHandler`] one runs beside the loop and may wait for anything: a child process, another server, a person.
//! Making every service the second kind was refused, since it costs each message two hand-overs; making every
//! one the first was refused, since a service that waits would stop its whole worker.

use std::ops::ControlFlow;
use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
};

use futures_channel::mpsc::{Receiver, Sender, channel};
use futures_core::Stream;

use crate::{
    endpoint::Shape,
    event::{Address, ConversationId},
    framing::FramingPair,
    message::{Replies, Run},
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

/// A service that runs beside the conversation.
pub trait SpawnedHandler: Send {
    /// Speaks and hears until it is done. What it says when, is its own affair; the conversation ends when it
    /// returns and all it said is sent, or when the peer is gone, which it sees as closed queues.
    ///
    /// Both queues are bounded and independent: while it does not take what is heard, nothing more is read from
    /// the peer; while the peer does not take what is said, saying waits.
    fn run(
        self: Box<Self>,
        heard: Heard,
        said: Said,
    ) -> BoxFuture<'static, Result<(), ServiceError>>;
}

/// A message handed to an [`SpawnedHandler`] service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardMessage {
    /// Its number in the conversation, from 0.
    pub index: u64,
    /// Its body, without header or terminator.
    pub body: Vec<u8>,
}

/// Something an [`SpawnedHandler`] service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaidMessage {
    /// The message this answers. Answers leave in the order of the messages, whatever the order of saying: one
    /// is held back until all before it are there, so a service that answers at all answers every message, if
    /// need be with nothing. `None`: said unasked, leaves at once.
    pub in_answer_to: Option<u64>,
    /// The body; an answer is framed on its way out as its message was.
    pub body: Vec<u8>,
}

/// What an [`SpawnedHandler`] service hears. At most [`QUEUE`] messages wait in it.
#[derive(Debug)]
pub struct Heard(Receiver<HeardMessage>);

impl Heard {
    /// The next message; none when the peer has said its last or is gone.
    pub async fn next(&mut self) -> Option<HeardMessage> {
        poll_fn(|cx| Pin::new(&mut self.0).poll_next(cx)).await
    }
}

/// Where an [`SpawnedHandler`] service speaks. At most [`QUEUE`] messages wait in it.
#[derive(Clone, Debug)]
pub struct Said(Sender<SaidMessage>);

/// Nobody is left to speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerGone;

impl Said {
    /// Says it, when there is room; waits while the peer is not reading.
    pub async fn say(&mut self, message: SaidMessage) -> Result<(), PeerGone> {
        poll_fn(|cx| self.0.poll_ready(cx))
            .await
            .map_err(|_| PeerGone)?;
        self.0.start_send(message).map_err(|_| PeerGone)
    }
}

/// Messages that wait between a conversation and its [`SpawnedHandler`] service, in each direction.
pub const QUEUE: usize = 16;

/// The conversation's ends of the two queues, and the service's.
pub fn queues() -> (Sender<HeardMessage>, Receiver<SaidMessage>, Heard, Said) {
    let (tell, heard) = channel(QUEUE);
    let (said, listen) = channel(QUEUE);
    (tell, listen, Heard(heard), Said(said))
}

impl fmt::Display for PeerGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer is gone")
    }
}

impl Error for PeerGone {}

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
