//! A clock that gives monotonic and wall time from one reading.

use std::time::{SystemTime, UNIX_EPOCH};

use echoic_core::event::Micros;
use tokio::time::Instant;

/// Relates the wall clock to the monotonic clock at one moment, so that later readings of the monotonic clock give
/// both. Times within a conversation therefore never go backwards, even if the machine's wall clock is set.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Micros,
    start: Instant,
}

impl Clock {
    /// Reads both clocks once.
    pub fn start() -> Self {
        Self {
            wall: wall_clock_now(),
            start: Instant::now(),
        }
    }

    /// Returns the wall-clock time at `instant`.
    #[inline]
    pub fn wall_time_at(&self, instant: Instant) -> Micros {
        self.wall + instant.saturating_duration_since(self.start).as_micros() as Micros
    }
}

/// Returns the current wall-clock time.
pub fn wall_clock_now() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_micros() as Micros
}
