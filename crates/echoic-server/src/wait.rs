//! The wake-ups of a conversation that its peer does not cause: its deadline and the stop signal.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Duration, Instant, Sleep},
};

use crate::{
    drain::{Drain, DrainNotice},
    timers::Timers,
};

/// A deadline noticed this late means that the process did not run: it was stopped, or the machine was suspended.
const LATE: Duration = Duration::from_millis(100);

/// The time that a conversation then gets to find what arrived meanwhile.
const GRACE: Duration = Duration::from_millis(100);

/// One timer and one drain notice for the life of a conversation.
///
/// The deadline moves with every message; the timer does not. It is reset only to an earlier time, and when it fires
/// before the deadline it is reset to it. Neither the timer nor the notice is polled while bytes arrive: [`Wait::poll`]
/// is called when nothing else is ready, and registers once as long as the task's waker is the same.
#[derive(Debug)]
pub(crate) struct Wait {
    sleep: Pin<Box<Sleep>>,
    notice: DrainNotice,
    registered: Option<Waker>,
    drained: bool,
    /// The deadline that was noticed late, and is over when the timer fires again.
    late: Option<Instant>,
    /// Whether the task has made progress since it last waited.
    has_progressed: bool,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// The deadline has passed.
    Deadline,
    /// The server is stopping. Returned once.
    Drain,
}

impl Wait {
    pub(crate) fn new(drain: &Drain, deadline: Instant, timers: &Timers) -> Self {
        let sleep = Box::pin(timers.sleep_until(deadline));
        Self {
            sleep,
            notice: drain.notice(),
            registered: None,
            drained: false,
            late: None,
            has_progressed: true,
        }
    }

    /// The task has made progress. It then checks the drain itself, and the next call of [`Self::poll`] does not look for
    /// the cause of the wake-up.
    pub(crate) fn note_progress(&mut self) {
        self.has_progressed = true;
    }

    /// Waits for `deadline` and the stop signal; called when nothing else is ready. If the task has made no progress since
    /// the last call, the timer or the notice must have woken it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<Wakeup> {
        let has_progressed = mem::take(&mut self.has_progressed);
        if deadline < self.sleep.deadline() && self.late != Some(deadline) {
            self.sleep.as_mut().reset(deadline);
            self.registered = None;
        }
        let known = self
            .registered
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        // Without the check of `is_elapsed`, a timer that fired during a wake-up with bytes to read would never be reset.
        if known && has_progressed && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        if !known {
            self.registered = Some(cx.waker().clone());
        }
        if !self.drained && self.notice.poll(cx).is_ready() {
            self.drained = true;
            return Poll::Ready(Wakeup::Drain);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let next = if now < deadline {
                deadline
            } else if self.late != Some(deadline) && now - deadline >= LATE {
                // The timer may be noticed before the bytes that arrived in time.
                self.late = Some(deadline);
                now + GRACE
            } else {
                return Poll::Ready(Wakeup::Deadline);
            };
            self.sleep.as_mut().reset(next);
        }
        // A task without coop budget finds everything pending, also the timer, which has then not registered the waker.
        if !has_budget_remaining() {
            self.registered = None;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use proptest::prelude::*;
    use tokio::{
        runtime::{Builder, Handle},
        sync::mpsc,
        time::{sleep, timeout},
    };

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A task that waits as a conversation does: it takes bytes first and polls the wait only when there are none.
    struct Sleeper {
        wait: Wait,
        drain: Drain,
        drained: bool,
        bytes: mpsc::Receiver<Duration>,
        deadline: Instant,
        /// How often the timer was reset.
        resets: usize,
    }

    impl Sleeper {
        /// Takes what arrives, and each time sets its deadline that far off, until the wait is ready.
        async fn sleep(&mut self) -> Wakeup {
            self.wait.note_progress();
            poll_fn(|cx| {
                while let Poll::Ready(Some(timeout)) = self.bytes.poll_recv(cx) {
                    self.wait.note_progress();
                    self.deadline = Instant::now() + timeout;
                }
                if self.wait.has_progressed && !self.drained && self.drain.has_started() {
                    self.drained = true;
                    return Poll::Ready(Wakeup::Drain);
                }
                let before = self.wait.sleep.deadline();
                let wakeup = self.wait.poll(cx, self.deadline);
                self.resets += usize::from(self.wait.sleep.deadline() != before);
                self.drained |= wakeup == Poll::Ready(Wakeup::Drain);
                wakeup
            })
            .await
        }
    }

    fn sleeper(drain: &Drain, timeout: Duration) -> (Sleeper, mpsc::Sender<Duration>) {
        let (sender, bytes) = mpsc::channel(64);
        let deadline = Instant::now() + timeout;
        let sleeper = Sleeper {
            wait: Wait::new(drain, deadline, &Timers::of(&Handle::current())),
            drain: drain.clone(),
            drained: false,
            bytes,
            deadline,
            resets: 0,
        };
        (sleeper, sender)
    }

    #[tokio::test(start_paused = true)]
    async fn timer_is_not_reset_for_each_message() {
        let (mut sleeper, sender) = sleeper(&Drain::default(), 1000 * MS);
        let sending = tokio::spawn(async move {
            for _ in 0..5000 {
                sleep(MS).await;
                sender.send(1000 * MS).await.unwrap();
            }
            sender
        });
        assert_eq!(sleeper.sleep().await, Wakeup::Deadline);
        assert!(Instant::now() >= sleeper.deadline);
        assert!(
            sleeper.resets <= 6,
            "once per length of the deadline: {}",
            sleeper.resets
        );
        drop(sending.await);
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_noticed_late_leaves_time_to_find_what_arrived() {
        let (mut sleeper, sender) = sleeper(&Drain::default(), 1000 * MS);
        tokio::spawn(async move {
            sleep(5001 * MS).await;
            sender.send(1000 * MS).await.unwrap();
            sleep(60_000 * MS).await;
        });
        // The task does not run meanwhile, as in a stopped process.
        sleep(5000 * MS).await;
        let since = Instant::now();
        assert_eq!(sleeper.sleep().await, Wakeup::Deadline);
        let after = since.elapsed();
        assert!(after >= 1001 * MS && after <= 1003 * MS, "{after:?}");
        sleep(5000 * MS).await;
        let since = Instant::now();
        sleeper.deadline = since - 200 * MS;
        assert_eq!(sleeper.sleep().await, Wakeup::Deadline);
        let after = since.elapsed();
        assert!(after >= GRACE && after <= GRACE + 2 * MS, "once: {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn stop_signal_is_delivered_once() {
        let drain = Drain::default();
        let (mut sleeper, _sender) = sleeper(&drain, 1000 * MS);
        let stopping = drain.clone();
        tokio::spawn(async move {
            sleep(10 * MS).await;
            stopping.start();
        });
        assert_eq!(sleeper.sleep().await, Wakeup::Drain);
        assert_eq!(sleeper.sleep().await, Wakeup::Deadline);
        let (mut late, _sender) = self::sleeper(&drain, 1000 * MS);
        assert_eq!(
            late.sleep().await,
            Wakeup::Drain,
            "also to a conversation that starts after it"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        /// With bytes at any time, also at the deadline itself, and deadlines that move either way, the wait ends at the
        /// current deadline, no earlier and no later.
        #[test]
        fn no_deadline_is_missed(
            arrivals in prop::collection::vec((0_u64..30, 1_u64..40), 0..40),
            first in 1_u64..40,
            stop in prop::option::of(0_u64..400),
        ) {
            let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let drain = Drain::default();
                let began = Instant::now();
                let (mut sleeper, sender) = sleeper(&drain, first as u32 * MS);
                let sending = tokio::spawn(async move {
                    for (pause, timeout) in arrivals {
                        sleep(pause as u32 * MS).await;
                        if sender.send(timeout as u32 * MS).await.is_err() {
                            break;
                        }
                    }
                    sender
                });
                if let Some(stop) = stop {
                    let drain = drain.clone();
                    tokio::spawn(async move {
                        sleep(stop as u32 * MS).await;
                        drain.start();
                    });
                }
                let (mut drained, mut drain_wakeups) = (false, 0);
                loop {
                    let wakeup = timeout(Duration::from_mins(1), sleeper.sleep()).await;
                    let now = Instant::now();
                    match wakeup.expect("the wait never ended") {
                        Wakeup::Drain => {
                            drain_wakeups += 1;
                            if drained {
                                continue;
                            }
                            drained = true;
                            let after = now - began;
                            let stop = stop.unwrap() as u32 * MS;
                            assert!(after >= stop && after <= stop + 2 * MS, "{after:?}");
                        }
                        Wakeup::Deadline => {
                            let late = now.checked_duration_since(sleeper.deadline);
                            assert!(late.is_some_and(|late| late <= 2 * MS), "{late:?}");
                            break;
                        }
                    }
                }
                assert!(drain_wakeups <= 2, "by the flag and by the notice, each once");
                drop(sleeper);
                sending.abort();
            });
        }
    }
}
