//! How far a run has come, for whoever looks on.

use std::sync::{Mutex, PoisonError};

use super::{figures::Second, tally::Tally};

/// What one thread told last.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<Progress>);

/// How far a run has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Nanoseconds since its start, warm-up included.
    pub now: u64,
    /// Requests of the window that were due, sent, answered as expected, answered otherwise and given up.
    pub asked: u64,
    /// See [`Self::asked`].
    pub sent: u64,
    /// See [`Self::asked`].
    pub ok: u64,
    /// See [`Self::asked`].
    pub wrong: u64,
    /// See [`Self::asked`].
    pub lost: u64,
    /// Asked and not yet settled.
    pub in_flight: usize,
    /// Seconds of the window that are over.
    pub seconds: usize,
    /// The last of them.
    pub recent: Option<Second>,
    /// How late the generator has been in 99 of 100 cases, in nanoseconds.
    pub lag_p99: u64,
}

impl Live {
    /// Tells how far it is.
    pub(super) fn publish(&self, now: u64, tally: &Tally, in_flight: usize) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last second is not over yet.
        let seconds = tally.seconds.len().saturating_sub(1);
        if seconds != progress.seconds || now < progress.now {
            progress.recent = seconds
                .checked_sub(1)
                .map(|last| tally.seconds[last].clone());
            progress.lag_p99 = tally.lag.value_at_quantile(0.99);
        }
        progress.seconds = seconds;
        progress.now = now;
        progress.asked = tally.asked;
        progress.sent = tally.sent;
        progress.ok = tally.ok;
        progress.wrong = tally.wrong;
        progress.lost = tally.lost;
        progress.in_flight = in_flight;
    }

    /// What was told last.
    pub(super) fn progress(&self) -> Progress {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Progress {
    /// With what another thread tells.
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.now = self.now.max(other.now);
        self.asked += other.asked;
        self.sent += other.sent;
        self.ok += other.ok;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.in_flight += other.in_flight;
        self.lag_p99 = self.lag_p99.max(other.lag_p99);
        self.seconds = self.seconds.max(other.seconds);
        self.recent = match (self.recent, other.recent) {
            (Some(mut ours), Some(theirs)) => {
                ours.add(&theirs);
                Some(ours)
            }
            (ours, theirs) => ours.or(theirs),
        };
        self
    }
}
