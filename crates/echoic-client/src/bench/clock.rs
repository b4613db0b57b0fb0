//! The clock of a run: nanoseconds since its start, shared by all its threads.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clock that starts with a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    unix_nanos: u64,
}

impl Clock {
    /// Creates a clock that starts `after` from now.
    pub(super) fn starting(after: Duration) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start: Instant::now() + after,
            unix_nanos: nanos(unix.unwrap_or_default() + after),
        }
    }

    /// Returns the nanoseconds until the start.
    pub(super) fn until_start(&self) -> u64 {
        nanos(self.start.saturating_duration_since(Instant::now()))
    }

    /// Returns the nanoseconds since the start; 0 before it.
    pub(super) fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    /// Converts a time of the run to nanoseconds since 1970.
    pub(super) fn unix_nanos(&self, moment: u64) -> u64 {
        self.unix_nanos + moment
    }

    /// Converts a time of the run to system time.
    pub(super) fn system(&self, moment: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.unix_nanos(moment))
    }
}

/// Converts to nanoseconds; saturates at 584 years.
pub(super) fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Converts computed nanoseconds to an integer: truncates, and saturates at the bounds of `u64`.
#[expect(clippy::cast_sign_loss, reason = "what is below 0 becomes 0")]
pub(super) fn saturating_nanos(nanos: f64) -> u64 {
    nanos as u64
}
