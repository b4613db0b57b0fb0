//! CPU time of the load generator.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns the CPU time used by this thread so far.
pub(super) fn of_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// Returns the CPU time used by all threads of this process so far.
pub(super) fn of_process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
