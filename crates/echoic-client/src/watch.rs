//! Who is told of everything that goes over the wire: for a record.

use std::task::{Context, Poll};

use echoic_core::framing::FramingPair;
use tokio::time::Instant;

/// What goes over the wire, as it happens, and whether or not anybody takes the news of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened<'a> {
    /// The kernel took these bytes.
    Sent {
        /// When.
        at: Instant,
        /// As they went.
        bytes: &'a [u8],
        /// Something said ends with them.
        whole: bool,
    },
    /// These bytes came, in one read.
    Heard {
        /// When.
        at: Instant,
        /// As they came.
        bytes: &'a [u8],
    },
    /// The peer ended its half of the stream (FIN) before we had ended ours.
    HalfClosed {
        /// When.
        at: Instant,
    },
    /// From here on messages are divided so.
    Framed(FramingPair),
}

/// Looks on at a conversation from within its loop.
pub trait Watch {
    /// Told of each thing as it happens; must not wait.
    fn happened(&mut self, happened: Happened<'_>);

    /// Ready when it may be told more. Until then nothing is sent or read, so that the peer feels it as it feels any
    /// slow reader, and no deadline of the conversation runs. Whoever answers that it is not ready wakes the task later.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Nobody looks on.
impl Watch for () {
    fn happened(&mut self, _: Happened<'_>) {}

    fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
