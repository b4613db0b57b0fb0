//! What a conversation waits for beside its peer: a deadline and the stop signal.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep},
};

use crate::{
    drain::{Drain, DrainNotice},
    timers::Timers,
};

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
    /// The task has done something since it last waited.
    pub(crate) has_progressed: bool,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// The deadline has passed.
    Deadline,
    /// The server has been told to stop. Said once.
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
            has_progressed: true,
        }
    }

    /// To be called when nothing else was ready: waits for `deadline` and the stop signal. `idle` says whether this
    /// wake-up came to nothing, so that the reason for it must be here; a task that made progress asks the drain
    /// itself.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Instant,
        idle: bool,
    ) -> Poll<Wakeup> {
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
            return Poll::Ready(Wakeup::Drain);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Wakeup::Deadline);
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

    /// A task as a conversation is one: bytes come first, and the bell is only asked when none do.
    struct Sleeper {
        wait: Wait,
        drain: Drain,
        drained: bool,
        bytes: mpsc::Receiver<Duration>,
        deadline: Instant,
        /// How often the timer was set.
        set: usize,
    }

    impl Sleeper {
        /// Sleeps through what comes, each time putting its deadline so far off, until a bell rings.
        async fn sleep(&mut self) -> Wakeup {
            let mut busy = true;
            poll_fn(|cx| {
                while let Poll::Ready(Some(patience)) = self.bytes.poll_recv(cx) {
                    busy = true;
                    self.deadline = Instant::now() + patience;
                }
                if busy && !self.drained && self.drain.has_started() {
                    self.drained = true;
                    return Poll::Ready(Wakeup::Drain);
                }
                let was = self.wait.sleep.deadline();
                let rung = self
                    .wait
                    .poll(cx, self.deadline, !std::mem::take(&mut busy));
                self.set += usize::from(self.wait.sleep.deadline() != was);
                self.drained |= rung == Poll::Ready(Wakeup::Drain);
                rung
            })
            .await
        }
    }

    fn sleeper(drain: &Drain, patience: Duration) -> (Sleeper, mpsc::Sender<Duration>) {
        let (tell, bytes) = mpsc::channel(64);
        let deadline = Instant::now() + patience;
        let sleeper = Sleeper {
            wait: Wait::new(drain, deadline, &Timers::of(&Handle::current())),
            drain: drain.clone(),
            drained: false,
            bytes,
            deadline,
            set: 0,
        };
        (sleeper, tell)
    }

    #[tokio::test(start_paused = true)]
    async fn timer_is_not_reset_for_each_message() {
        let (mut sleeper, tell) = sleeper(&Drain::default(), 1000 * MS);
        let telling = tokio::spawn(async move {
            for _ in 0..5000 {
                sleep(MS).await;
                tell.send(1000 * MS).await.unwrap();
            }
            tell
        });
        assert_eq!(sleeper.sleep().await, Wakeup::Deadline);
        assert!(Instant::now() >= sleeper.deadline);
        assert!(
            sleeper.set <= 6,
            "once a deadline's length: {}",
            sleeper.set
        );
        drop(telling.await);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_signal_is_delivered_once() {
        let drain = Drain::default();
        let (mut sleeper, _tell) = sleeper(&drain, 1000 * MS);
        let stopping = drain.clone();
        tokio::spawn(async move {
            sleep(10 * MS).await;
            stopping.start();
        });
        assert_eq!(sleeper.sleep().await, Wakeup::Drain);
        assert_eq!(sleeper.sleep().await, Wakeup::Deadline);
        let (mut late, _tell) = self::sleeper(&drain, 1000 * MS);
        assert_eq!(
            late.sleep().await,
            Wakeup::Drain,
            "also to whoever comes after it"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        /// Bytes at any moment, also at the very moment of a deadline, and deadlines that move either way: the bell
        /// rings at the deadline that holds, no earlier and no later.
        #[test]
        fn no_deadline_is_missed(
            arrivals in prop::collection::vec((0_u64..30, 1_u64..40), 0..40),
            patience in 1_u64..40,
            stop in prop::option::of(0_u64..400),
        ) {
            let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let drain = Drain::default();
                let began = Instant::now();
                let (mut sleeper, tell) = sleeper(&drain, patience as u32 * MS);
                let coming = arrivals.clone();
                let telling = tokio::spawn(async move {
                    for (pause, patience) in coming {
                        sleep(pause as u32 * MS).await;
                        if tell.send(patience as u32 * MS).await.is_err() {
                            break;
                        }
                    }
                    tell
                });
                if let Some(stop) = stop {
                    let drain = drain.clone();
                    tokio::spawn(async move {
                        sleep(stop as u32 * MS).await;
                        drain.start();
                    });
                }
                let (mut drained, mut bells) = (false, 0);
                loop {
                    let rung = timeout(Duration::from_mins(1), sleeper.sleep()).await;
                    let now = Instant::now();
                    match rung.expect("a bell that never rings") {
                        Wakeup::Drain => {
                            bells += 1;
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
                assert!(bells <= 2, "by the flag and by the bell, each once");
                drop(sleeper);
                telling.abort();
            });
        }
    }
}
