//! Where time is waited for: not on the workers.
//!
//! A runtime that has a timer has the kernel arm one each time it sleeps, and a conversation has one from its beginning
//! to its end. So a worker has none: the runtime beside the wire watches deadlines, and wakes who meets one.

use std::{future::Future, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, Timeout, sleep_until, timeout, timeout_at},
};

/// The timers of a runtime, for tasks that may run on another one.
#[derive(Clone, Debug)]
pub(crate) struct Timers(Handle);

impl Timers {
    pub(crate) fn of(runtime: &Handle) -> Self {
        Self(runtime.clone())
    }

    pub(crate) fn sleep_until(&self, deadline: Instant) -> Sleep {
        let _theirs = self.0.enter();
        sleep_until(deadline)
    }

    pub(crate) fn timeout<F: Future>(&self, patience: Duration, future: F) -> Timeout<F> {
        let _theirs = self.0.enter();
        timeout(patience, future)
    }

    pub(crate) fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Timeout<F> {
        let _theirs = self.0.enter();
        timeout_at(deadline, future)
    }
}
