//! Batches that the conversations of one worker fill and the recorder has not yet taken.

use std::{
    mem,
    sync::{Mutex, atomic::AtomicUsize},
    task::Waker,
};

use echoic_core::event::Batch;

/// A round with this many bytes is committed before the commit interval has passed.
pub(crate) const ROUND_BYTES: usize = 512 << 10;

/// Maximum of empty batches held for a worker: as many as it fills in 20 ms at full speed. More would only cost memory.
pub(crate) const EMPTY_BATCHES_MAX: usize = 6;

/// The part of the recorder's backlog that belongs to one worker.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) state: Mutex<ShardState>,
    /// Recorded bytes that are not yet committed. A copy outside the lock, for readers that need no exact value.
    pub(crate) uncommitted_bytes: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct ShardState {
    pub(crate) batch: Batch,
    /// Full batches, oldest first. Each is small enough to be still in the cache when it is committed.
    pub(crate) full: Vec<Batch>,
    full_bytes: usize,
    /// Empty batches with capacity, to replace `batch` when it is full.
    pub(crate) empty: Vec<Batch>,
    pub(crate) epoch: u64,
    /// Bytes taken by the recorder and not yet committed.
    pub(crate) taken_bytes: usize,
    /// Exchanges lost for want of room since the last round.
    pub(crate) lost: u64,
    /// The recorder has stopped: it takes no more events.
    pub(crate) closed: bool,
    /// Tasks that wait for a commit.
    pub(crate) wakers: Vec<Waker>,
    /// How often all of `wakers` have been woken.
    pub(crate) wake_count: u64,
}

impl ShardState {
    /// Returns the bytes recorded and not yet taken.
    pub(crate) fn size(&self) -> usize {
        self.full_bytes + self.batch.size()
    }

    /// Returns the number of exchanges recorded and not yet taken.
    pub(crate) fn exchanges(&self) -> u64 {
        let full = self.full.iter().map(Batch::exchanges);
        full.sum::<u64>() + self.batch.exchanges()
    }

    /// Replaces the batch by an empty one if it is full.
    pub(crate) fn rotate_if_full(&mut self) {
        if self.batch.size() >= ROUND_BYTES {
            self.full_bytes += self.batch.size();
            let empty = self.empty.pop().unwrap_or_default();
            self.full.push(mem::replace(&mut self.batch, empty));
        }
    }

    /// Takes all batches, in order. The next events go into `empty`.
    pub(crate) fn take_batches(&mut self, empty: Batch) -> Vec<Batch> {
        self.taken_bytes += self.size();
        self.full_bytes = 0;
        let mut taken = mem::take(&mut self.full);
        taken.push(mem::replace(&mut self.batch, empty));
        taken
    }
}

impl Default for ShardState {
    fn default() -> Self {
        // Epochs begin at 1: at 0 nothing is committed.
        Self {
            batch: Batch::default(),
            full: Vec::new(),
            full_bytes: 0,
            empty: Vec::new(),
            epoch: 1,
            taken_bytes: 0,
            lost: 0,
            closed: false,
            wakers: Vec::new(),
            wake_count: 0,
        }
    }
}
