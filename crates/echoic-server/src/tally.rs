//! Message and byte counts of one conversation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use echoic_core::ending::{CloseReason, Ending};

/// Totals over all conversations that have ended.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Their exchanges.
    pub(crate) served: AtomicU64,
    /// Conversations that were cut at the drain deadline or by a stop at once.
    pub(crate) cut: AtomicU64,
    /// What is not done is cut now, whatever the drain timeout.
    at_once: AtomicBool,
}

impl Totals {
    /// Notes that the conversations that are dropped from now on are cut by a stop at once.
    pub(crate) fn stop_at_once(&self) {
        self.at_once.store(true, Ordering::SeqCst);
    }

    /// The reason of a conversation that is dropped before its end: it panicked, or its task was aborted.
    pub(crate) fn reason_of_drop(&self) -> CloseReason {
        if std::thread::panicking() {
            CloseReason::Panicked
        } else if self.at_once.load(Ordering::SeqCst) {
            CloseReason::StoppedAtOnce
        } else {
            CloseReason::DrainTimeout
        }
    }
}

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
    /// The ending of a conversation that ends for `reason`.
    pub(crate) fn ending(&self, reason: CloseReason) -> Ending {
        Ending {
            reason,
            received: self.received,
            sent: self.sent,
            unsent: self.produced.saturating_sub(self.sent),
            discarded: self.discarded,
            left_over: None,
        }
    }
}
