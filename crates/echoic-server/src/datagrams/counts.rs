//! What becomes of datagrams, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of datagrams, all sockets together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramCounts {
    /// Taken from the kernel.
    pub received: u64,
    /// Answers that left.
    pub sent: u64,
    /// Answers that a rule forbade.
    pub withheld: u64,
    /// Answers that the system would not send.
    pub unsent: u64,
    /// Dropped by the kernel since we were too slow to take them.
    pub dropped: u64,
}

/// The same while it is being counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) withheld: AtomicU64,
    pub(super) unsent: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// Conversations ended by a bug.
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

/// So many more.
pub(super) fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}
