//! The stop signal for conversations.

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

/// Whether the server is stopping: a flag that all conversations check at every turn, and a notice that wakes the idle
/// ones. The check is cheap: nothing writes to the flag's cache line before the stop.
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
    /// Registers for the wake-up; ready once the drain has started. The flag is checked again after registering, so a
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

/// Waits until the runtime has polled the kernel once more for ready sockets.
///
/// A bare `yield_now` ends as soon as its task is polled again, and at the stop the drain notice causes that poll. So
/// it yields with a waker of its own, which only the runtime has, and which the runtime wakes after it polled the
/// kernel.
pub(crate) async fn poll_sockets_once_more() {
    let polled: Arc<SocketsPolled> = poll_fn(|cx| {
        let polled = Arc::new(SocketsPolled {
            done: AtomicBool::new(false),
            task: cx.waker().clone(),
        });
        let waker = Waker::from(Arc::clone(&polled));
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        Poll::Ready(polled)
    })
    .await;
    poll_fn(|_| {
        if polled.done.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// A waker that notes that it was woken.
struct SocketsPolled {
    done: AtomicBool,
    task: Waker,
}

impl Wake for SocketsPolled {
    fn wake(self: Arc<Self>) {
        self.done.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
