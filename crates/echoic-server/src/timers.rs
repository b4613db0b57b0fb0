//! Timers of the control runtime, for tasks on the workers.
//!
//! A runtime with a pending timer arms one in the kernel each time it sleeps, and every conversation has a deadline
//! from its beginning to its end. So workers have no timers: the control runtime holds them and wakes the tasks.

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
        let _entered = self.0.enter();
        sleep_until(deadline)
    }

    pub(crate) fn timeout<F: Future>(&self, limit: Duration, future: F) -> Timeout<F> {
        let _entered = self.0.enter();
        timeout(limit, future)
    }

    pub(crate) fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Timeout<F> {
        let _entered = self.0.enter();
        timeout_at(deadline, future)
    }
}
