//! The stop signal as a conversation sees it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    task::yield_now,
};

/// Whether the server has been told to stop. One flag all conversations look at every turn (a read of a line that
/// nobody writes, so it costs nothing), and one notice that wakes those that sleep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    started: AtomicBool,
    notice: Arc<Notify>,
}

impl Drain {
    pub(crate) fn start(&self) {
        self.0.started.store(true, Ordering::SeqCst);
        self.0.notice.notify_waiters();
    }

    pub(crate) fn has_started(&self) -> bool {
        self.0.started.load(Ordering::Relaxed)
    }

    pub(crate) fn notice(&self) -> DrainNotice {
        let notified = Box::pin(Arc::clone(&self.0.notice).notified_owned());
        DrainNotice {
            drain: self.clone(),
            notified,
        }
    }
}

/// Wakes one conversation when the drain starts.
#[derive(Debug)]
pub(crate) struct DrainNotice {
    drain: Drain,
    notified: Pin<Box<OwnedNotified>>,
}

impl DrainNotice {
    /// Registers for the wake-up; ready once the drain has started. The flag is looked at after registering, so a
    /// start between the two is not missed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drain.has_started() || self.notified.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if self.drain.0.started.load(Ordering::SeqCst) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Ready when the runtime has asked the kernel once more which sockets have something.
///
/// A bare `yield_now` is over as soon as its task is polled again, whoever woke it; and at the stop signal it is the
/// signal itself that does. So the yielding is done under a waker of its own, which only the runtime knows, and which
/// it wakes after it has asked.
pub(crate) async fn look_once_more() {
    let asked: Arc<Asked> = poll_fn(|cx| {
        let asked = Arc::new(Asked {
            done: AtomicBool::new(false),
            task: cx.waker().clone(),
        });
        let waker = Waker::from(Arc::clone(&asked));
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        Poll::Ready(asked)
    })
    .await;
    poll_fn(|_| {
        if asked.done.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

struct Asked {
    done: AtomicBool,
    task: Waker,
}

impl Wake for Asked {
    fn wake(self: Arc<Self>) {
        self.done.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
