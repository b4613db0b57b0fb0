//! What conversations have told and the recorder has not yet taken.

use std::{
    mem,
    sync::{Mutex, atomic::AtomicUsize},
    task::Waker,
};

use echoic_core::event::Batch;

/// A batch this large does not wait for the end of the pace.
pub(crate) const ROUND_BYTES: usize = 512 << 10;

/// Emptied batches kept for a worker: what it tells in 20 ms at full speed. More would only be memory.
pub(crate) const SPARE_MAX: usize = 6;

/// What the conversations of one worker have told and the recorder has not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) filling: Mutex<Filling>,
    /// Bytes that are told and not kept, for those who only want to look.
    pub(crate) used: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Filling {
    pub(crate) batch: Batch,
    /// Batches that are full: each is small enough to be still in the cache when it is kept.
    pub(crate) full: Vec<Batch>,
    full_bytes: usize,
    /// Empty ones with room, for when `batch` is full.
    pub(crate) spare: Vec<Batch>,
    pub(crate) epoch: u64,
    /// Bytes taken by the recorder and not yet kept.
    pub(crate) taken_bytes: usize,
    /// Exchanges that found no room since the last round.
    pub(crate) lost: u64,
    /// Nobody will take what is put in any more.
    pub(crate) closed: bool,
    /// Conversations that wait for a commit, and how often they have been woken so far.
    pub(crate) waiting: Vec<Waker>,
    pub(crate) wakes: u64,
}

impl Filling {
    /// Bytes told and not yet taken.
    pub(crate) fn size(&self) -> usize {
        self.full_bytes + self.batch.size()
    }

    pub(crate) fn exchanges(&self) -> u64 {
        let full = self.full.iter().map(Batch::exchanges);
        full.sum::<u64>() + self.batch.exchanges()
    }

    /// Goes on with an empty batch if this one is full.
    pub(crate) fn turn_over(&mut self) {
        if self.batch.size() >= ROUND_BYTES {
            self.full_bytes += self.batch.size();
            let empty = self.spare.pop().unwrap_or_default();
            self.full.push(mem::replace(&mut self.batch, empty));
        }
    }

    /// All there is, in order; what comes next goes into `empty`.
    pub(crate) fn take(&mut self, empty: Batch) -> Vec<Batch> {
        self.taken_bytes += self.size();
        self.full_bytes = 0;
        let mut taken = mem::take(&mut self.full);
        taken.push(mem::replace(&mut self.batch, empty));
        taken
    }
}

impl Default for Filling {
    fn default() -> Self {
        // Epochs begin at 1: nothing at all is committed at 0.
        Self {
            batch: Batch::default(),
            full: Vec::new(),
            full_bytes: 0,
            spare: Vec::new(),
            epoch: 1,
            taken_bytes: 0,
            lost: 0,
            closed: false,
            waiting: Vec::new(),
            wakes: 0,
        }
    }
}
