//! How many conversations each worker has.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::control::OpenCount;

/// Conversations open on each worker, and connections that are being rejected.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) open: Vec<AtomicUsize>,
    pub(super) rejecting: AtomicUsize,
}

impl Load {
    /// The worker with the fewest conversations, and how many are open on all of them.
    pub(super) fn least_loaded(&self) -> Option<(usize, usize)> {
        let counts = self.open.iter().map(|open| open.load(Ordering::Relaxed));
        let total = counts.clone().sum();
        let (worker, _) = counts.enumerate().min_by_key(|(_, open)| *open)?;
        Some((worker, total))
    }
}

/// Counts a conversation in [`Load`] until it is dropped.
pub(super) struct SessionCount {
    pub(super) load: Arc<Load>,
    pub(super) worker: usize,
    /// `None` if it is rejected.
    pub(super) open: Option<OpenCount>,
}

impl Drop for SessionCount {
    fn drop(&mut self) {
        let count = match self.open {
            Some(_) => &self.load.open[self.worker],
            None => &self.load.rejecting,
        };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}
