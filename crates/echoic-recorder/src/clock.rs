//! Time in one reading: a monotonic clock for spans and a wall clock for people.

use std::time::{SystemTime, UNIX_EPOCH};

use echoic_core::event::Micros;
use tokio::time::Instant;

/// Ties the two clocks together at one moment, so that later one reading of the monotonic clock gives both. Within
/// a conversation time therefore never runs backwards, whatever is done to the machine's wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Micros,
    start: Instant,
}

impl Clock {
    /// From now on.
    pub fn start() -> Self {
        Self {
            wall: wall(),
            start: Instant::now(),
        }
    }

    /// The wall clock at `instant`.
    #[inline]
    pub fn wall(&self, instant: Instant) -> Micros {
        self.wall + instant.saturating_duration_since(self.start).as_micros() as Micros
    }
}

/// The wall clock now.
pub fn wall() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_micros() as Micros
}
