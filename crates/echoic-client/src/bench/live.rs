//! Progress of a run, for observers on other threads.

use std::sync::{Mutex, PoisonError};

use super::{figures::Second, tally::Tally};

/// Latest progress of one thread.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<Progress>);

/// Progress of a run.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Nanoseconds since the start, including the warm-up.
    pub now: u64,
    /// Requests of the window that were due; the next fields count those sent, with the expected reply, with another reply,
    /// and lost.
    pub asked: u64,
    /// See [`Self::asked`].
    pub sent: u64,
    /// See [`Self::asked`].
    pub ok: u64,
    /// See [`Self::asked`].
    pub wrong: u64,
    /// See [`Self::asked`].
    pub lost: u64,
    /// Requests queued or unanswered.
    pub in_flight: usize,
    /// Completed seconds of the window.
    pub seconds: usize,
    /// The last completed second.
    pub recent: Option<Second>,
    /// 99th percentile of the generator lag in nanoseconds.
    pub lag_p99: u64,
}

impl Live {
    /// Publishes the current progress.
    pub(super) fn publish(&self, now: u64, tally: &Tally, in_flight: usize) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last second is not complete yet.
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

    /// Returns the latest progress.
    pub(super) fn progress(&self) -> Progress {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Progress {
    /// Adds the progress of another thread.
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
