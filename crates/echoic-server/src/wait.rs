//! What a conversation waits for beside its peer: a deadline and the stop signal.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep_until},
};

use crate::drain::{Drain, DrainNotice};

/// One timer and one notice for the life of a conversation, touched as seldom as can be.
///
/// The deadline moves with every message, the timer does not: it is only ever set to an earlier time, and when it
/// rings too early it is set anew. And since a wake-up that found bytes to read will be followed by another one,
/// neither is polled while the peer keeps us busy ([`Wait::poll`] is called when nothing else made progress, and it
/// registers once for as long as the task's waker stays the same).
#[derive(Debug)]
pub(crate) struct Wait {
    sleep: Pin<Box<Sleep>>,
    notice: DrainNotice,
    registered: Option<Waker>,
    drained: bool,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// The deadline has passed.
    Deadline,
    /// The server has been told to stop. Said once.
    Drain,
}

impl Wait {
    pub(crate) fn new(drain: &Drain, deadline: Instant) -> Self {
        let sleep = Box::pin(sleep_until(deadline));
        Self {
            sleep,
            notice: drain.notice(),
            registered: None,
            drained: false,
        }
    }

    /// To be called when nothing else was ready: waits for `deadline` and the stop signal. `idle` says whether this
    /// wake-up came to nothing, so that the reason for it must be here.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Instant,
        idle: bool,
    ) -> Poll<Rung> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
            self.registered = None;
        }
        let known = self
            .registered
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        // A timer that rang during a wake-up with bytes to read would otherwise never be set again.
        if known && !idle && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        if !known {
            self.registered = Some(cx.waker().clone());
        }
        if !self.drained && self.notice.poll(cx).is_ready() {
            self.drained = true;
            return Poll::Ready(Rung::Drain);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Rung::Deadline);
            }
            self.sleep.as_mut().reset(deadline);
        }
        // A task that has used up its turn finds everything pending, the timer too, which has then not registered.
        if !has_budget_remaining() {
            self.registered = None;
        }
        Poll::Pending
    }
}
