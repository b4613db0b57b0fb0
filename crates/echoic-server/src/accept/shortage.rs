//! What to do when accept fails: a pause that grows, and a warning now and then.

use std::{io, time::Duration};

use tokio::time::Instant;

/// Pause after a failed accept: starts at the first value and doubles up to the second while failures continue. Without
/// a pause, a full table of open files would turn into a full core.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(10);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Time between two warnings about failed accepts.
pub(super) const WARN_EVERY: Duration = Duration::from_secs(10);

/// State while accept fails for lack of open files (EMFILE, ENFILE) or memory (ENOBUFS, ENOMEM). Connections then wait in
/// the kernel's queue: accepting and closing them would lose those that could be served a moment later.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// The current pause; reset by the next success.
    pub(super) pause: Option<Duration>,
    /// Failures since the last warning, and the time of that warning.
    pub(super) unreported: u64,
    pub(super) warned_at: Option<Instant>,
}

impl Shortage {
    /// Warns, at most every [`WARN_EVERY`]. Returns when to try again.
    pub(super) fn on_failure(&mut self, now: Instant, error: &io::Error) -> Instant {
        self.unreported += 1;
        if self
            .warned_at
            .is_none_or(|warned| now >= warned + WARN_EVERY)
        {
            let times = self.unreported;
            tracing::warn!(times, "cannot accept, connections wait: {error}");
            (self.unreported, self.warned_at) = (0, Some(now));
        }
        let doubled = |last: Duration| (last * 2).min(PAUSE_MAX);
        let pause = self.pause.map_or(PAUSE_MIN, doubled);
        self.pause = Some(pause);
        now + pause
    }
}

/// Whether the failure concerns one connection only, which was closed or forbidden before it was accepted. The next one
/// can be accepted at once (accept(2), "Error handling").
pub(super) fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}
