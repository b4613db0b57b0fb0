//! Observation of everything that one conversation sends and receives, for a record of it.

use std::task::{Context, Poll};

use echoic_core::framing::FramingPair;
use tokio::time::Instant;

/// One step of a conversation on the wire, reported when it happens, before and regardless of the [`ClientEvent`] for it.
///
/// [`ClientEvent`]: crate::ClientEvent
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireEvent<'a> {
    /// The kernel accepted these bytes from us.
    Sent {
        /// When the write returned.
        at: Instant,
        /// The bytes as sent.
        bytes: &'a [u8],
        /// The bytes complete one [`ClientCommand::Send`](crate::ClientCommand::Send).
        complete: bool,
    },
    /// One read returned these bytes.
    Received {
        /// When the read returned.
        at: Instant,
        /// The bytes as received.
        bytes: &'a [u8],
    },
    /// The peer ended its half of the stream (FIN) before we ended ours.
    HalfClosed {
        /// When the read returned 0.
        at: Instant,
    },
    /// From here on, this pair of framings divides the bytes into messages.
    FramingChanged(FramingPair),
}

/// Receives every [`WireEvent`] of a conversation, synchronously, from within its loop.
pub trait Observer {
    /// Handles one event. Must not block.
    fn observe(&mut self, event: WireEvent<'_>);

    /// Returns `Ready` when the observer can take another event.
    ///
    /// While it is pending, nothing is read or sent (the peer sees a slow reader) and the timeouts of the conversation do
    /// not run. An observer that returns `Pending` must wake the task later.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Ignores all events.
impl Observer for () {
    fn observe(&mut self, _: WireEvent<'_>) {}

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
