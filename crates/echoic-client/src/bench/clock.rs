//! Time as a run sees it: nanoseconds since its start, which all its threads share.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The start of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    unix_nanos: u64,
}

impl Clock {
    /// Starts `after` from now.
    pub(super) fn starting(after: Duration) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start: Instant::now() + after,
            unix_nanos: nanos(unix.unwrap_or_default() + after),
        }
    }

    /// Nanoseconds until the start.
    pub(super) fn until_start(&self) -> u64 {
        nanos(self.start.saturating_duration_since(Instant::now()))
    }

    /// Nanoseconds since the start; 0 before it.
    pub(super) fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    /// A moment of the run as nanoseconds since 1970.
    pub(super) fn unix_nanos(&self, moment: u64) -> u64 {
        self.unix_nanos + moment
    }

    /// A moment of the run as the system's time.
    pub(super) fn system(&self, moment: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.unix_nanos(moment))
    }
}

/// In nanoseconds; more than 584 years are as good as for ever.
pub(super) fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Nanoseconds from a figure that was computed: cut to whole ones, and to what there is.
#[expect(clippy::cast_sign_loss, reason = "what is below 0 becomes 0")]
pub(super) fn saturating_nanos(nanos: f64) -> u64 {
    nanos as u64
}
