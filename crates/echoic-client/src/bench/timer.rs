//! A timer with microsecond precision.
//!
//! The timer of tokio has millisecond resolution, so that above a few hundred requests per second several would become due
//! at once. A kernel timer (`timerfd_create(2)`, Linux) is precise to some tens of microseconds; the rest is busy-waited if
//! there is a spare core.

use std::{
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// Maximum wake-up delay of the kernel in nanoseconds: the last part of a wait of this length is busy-waited.
pub(super) const TIMER_SLACK_NS: u64 = 100_000;

/// Kernel timer.
#[derive(Debug)]
pub(super) struct PreciseTimer {
    timer: AsyncFd<OwnedFd>,
    /// The time it is set to.
    set: Option<u64>,
}

impl PreciseTimer {
    /// Creates a timer on the current runtime.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for descriptors that may be closed meanwhile; this one is owned"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer, set: None })
    }

    /// Returns `Ready` once `moment` is reached; `now` must be before it.
    pub(super) fn poll_until(
        &mut self,
        moment: u64,
        now: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.set != Some(moment) {
            let wait = moment.saturating_sub(now).max(1);
            let value = Timespec {
                tv_sec: i64::try_from(wait / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: (wait % 1_000_000_000).cast_signed(),
            };
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: value,
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            self.set = Some(moment);
        }
        loop {
            let mut guard = ready!(self.timer.poll_read_ready(cx))?;
            let mut count = [0; 8];
            match guard.try_io(|timer| Ok(rustix::io::read(timer, &mut count)?)) {
                Ok(read) => {
                    read?;
                    self.set = None;
                    return Poll::Ready(Ok(()));
                }
                // It expired for a time that was replaced since.
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;
    use crate::bench::clock::Clock;

    #[tokio::test]
    async fn pace_waits_for_a_deadline_that_can_be_replaced() {
        let clock = Clock::starting(Duration::ZERO);
        let mut timer = PreciseTimer::new().unwrap();
        let far = clock.now() + 3_600_000_000_000;
        poll_fn(|cx| {
            assert!(timer.poll_until(far, clock.now(), cx).is_pending());
            Poll::Ready(())
        })
        .await;
        for _ in 0..3 {
            let near = clock.now() + 2_000_000;
            poll_fn(|cx| timer.poll_until(near, clock.now(), cx))
                .await
                .unwrap();
            assert!(clock.now() >= near);
        }
    }
}
