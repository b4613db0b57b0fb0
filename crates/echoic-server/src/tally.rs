//! Message and byte counts of one conversation.

use echoic_core::ending::{CloseReason, Ending};

/// Messages, exchanges and bytes of one conversation, over a stream or datagrams.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) exchanges: u64,
    /// Bytes read from the socket.
    pub(crate) received: u64,
    /// Bytes of replies that the handler produced.
    pub(crate) produced: u64,
    /// Bytes that the kernel took.
    pub(crate) sent: u64,
    /// Bytes dropped by the lingering close.
    pub(crate) discarded: u64,
}

impl Tally {
    /// The ending of a conversation that is being dropped. Without a reason it panicked or was aborted by the drain
    /// timeout.
    pub(crate) fn ending(&self, reason: Option<CloseReason>) -> Ending {
        let fallback = if std::thread::panicking() {
            CloseReason::Panicked
        } else {
            CloseReason::DrainTimeout
        };
        Ending {
            reason: reason.unwrap_or(fallback),
            received: self.received,
            sent: self.sent,
            unsent: self.produced.saturating_sub(self.sent),
            discarded: self.discarded,
            left_over: None,
        }
    }
}
