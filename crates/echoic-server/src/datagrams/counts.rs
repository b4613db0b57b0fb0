//! Counts of datagrams.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of datagrams over all sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramCounts {
    /// Received.
    pub received: u64,
    /// Replies sent.
    pub sent: u64,
    /// Replies that a rule forbade to send.
    pub withheld: u64,
    /// Replies that the system did not send.
    pub unsent: u64,
    /// Dropped by the kernel because they were not received in time.
    pub dropped: u64,
}

/// The counters behind [`DatagramCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) withheld: AtomicU64,
    pub(super) unsent: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// Conversations that ended in a panic.
    pub(crate) panicked: AtomicU64,
}

impl Counts {
    pub(crate) fn sum(&self) -> DatagramCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DatagramCounts {
            received: of(&self.received),
            sent: of(&self.sent),
            withheld: of(&self.withheld),
            unsent: of(&self.unsent),
            dropped: of(&self.dropped),
        }
    }
}

/// Adds `n` to a counter.
pub(super) fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}
