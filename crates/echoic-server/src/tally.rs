//! What one conversation has come to.

use echoic_core::ending::{CloseReason, Ending};

/// Counts of one conversation, of a stream or of datagrams.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) exchanges: u64,
    /// Bytes, as those below.
    pub(crate) received: u64,
    pub(crate) produced: u64,
    pub(crate) sent: u64,
    pub(crate) discarded: u64,
}

impl Tally {
    /// The ending of a conversation that is being dropped: as it parted, if it has, or by a panic, or cut.
    pub(crate) fn ending(&self, reason: Option<CloseReason>) -> Ending {
        let otherwise = if std::thread::panicking() {
            CloseReason::Panicked
        } else {
            CloseReason::DrainTimeout
        };
        Ending {
            reason: reason.unwrap_or(otherwise),
            received: self.received,
            sent: self.sent,
            unsent: self.produced.saturating_sub(self.sent),
            discarded: self.discarded,
        }
    }
}
