//! What the printer and the keys share: what was seen in the last second, and what is to be printed.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use echoic_core::filter::Filter;
use hdrhistogram::Histogram;

/// Largest latency that is told apart, in nanoseconds: a minute.
const LATENCY_MAX: u64 = 60_000_000_000;

/// Exchanges as the printer sees them, and what it is to print.
pub(crate) struct Activity {
    second: Mutex<Second>,
    selection: Mutex<Selection>,
    /// Changes with the selection, so that the printer looks at it only then.
    version: AtomicU64,
    unprinted: AtomicU64,
}

/// What was seen since the last look.
struct Second {
    exchanges: u64,
    latencies: Histogram<u64>,
}

/// What was seen in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) exchanges: u64,
    /// `None` if nothing was answered.
    pub(super) p50_ns: Option<u64>,
    pub(super) p99_ns: Option<u64>,
}

/// What is printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Nothing is.
    pub(crate) is_paused: bool,
    /// Only exchanges that match.
    pub(crate) filter: Option<Filter>,
}

impl Activity {
    pub(in crate::serve) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX, 2);
        Self {
            second: Mutex::new(Second {
                exchanges: 0,
                latencies: latencies.unwrap_or_else(|_| unreachable!("the bounds are valid")),
            }),
            selection: Mutex::default(),
            version: AtomicU64::new(0),
            unprinted: AtomicU64::new(0),
        }
    }

    /// Counts exchanges of one latency; `None` if they have none.
    pub(crate) fn add(&self, exchanges: u64, latency_ns: Option<u64>) {
        let mut second = lock(&self.second);
        second.exchanges += exchanges;
        if let Some(latency) = latency_ns {
            second.latencies.saturating_record(latency.max(1));
        }
    }

    /// Counts lines that are not printed because of a pause.
    pub(crate) fn add_unprinted(&self, lines: u64) {
        self.unprinted.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn take_unprinted(&self) -> u64 {
        self.unprinted.swap(0, Ordering::Relaxed)
    }

    /// Returns what was seen since the last call.
    pub(super) fn take_second(&self) -> Seen {
        let mut second = lock(&self.second);
        let quantile = |quantile| {
            let latencies = &second.latencies;
            (!latencies.is_empty()).then(|| latencies.value_at_quantile(quantile))
        };
        let seen = Seen {
            exchanges: second.exchanges,
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
        };
        second.exchanges = 0;
        second.latencies.reset();
        seen
    }

    pub(crate) fn selection(&self) -> Selection {
        lock(&self.selection).clone()
    }

    pub(super) fn select(&self, selection: Selection) {
        *lock(&self.selection) = selection;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes with the selection.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_has_its_own_exchanges_and_quantiles() {
        let activity = Activity::new();
        assert_eq!(activity.take_second(), Seen::default());
        for latency in 1..=100 {
            activity.add(1, Some(latency * 1_000_000));
        }
        activity.add(5, None);
        let seen = activity.take_second();
        assert_eq!(seen.exchanges, 105);
        let near = |quantile: Option<u64>, ms: u64| {
            quantile.is_some_and(|ns| ns.abs_diff(ms * 1_000_000) <= ms * 10_000)
        };
        assert!(near(seen.p50_ns, 50) && near(seen.p99_ns, 99), "{seen:?}");
        assert_eq!(activity.take_second(), Seen::default());
    }
}
