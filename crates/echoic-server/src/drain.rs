//! The stop signal for conversations: of the whole server, or of one endpoint.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use echoic_core::ending::CloseReason;
use tokio::{
    sync::{Notify, futures::OwnedNotified},
    task::yield_now,
};

/// Whether conversations are to end: a flag that each checks at every turn, and a notice that wakes the idle ones. The check
/// is cheap: nothing writes to the flag's cache line before the drain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// [`NOT_STARTED`], or why it was started first.
    started: AtomicU8,
    /// Its timeout has passed: conversations that open now end at once.
    overdue: AtomicBool,
    notice: Arc<Notify>,
}

const NOT_STARTED: u8 = 0;
const SERVER_STOPS: u8 = 1;
const ENDPOINT_DRAINS: u8 = 2;

impl Drain {
    /// Starts it because the server stops.
    pub(crate) fn start(&self) {
        self.start_for(SERVER_STOPS);
    }

    /// Starts it because an operator drains the endpoint.
    pub(crate) fn start_for_endpoint(&self) {
        self.start_for(ENDPOINT_DRAINS);
    }

    /// The first start gives the close reason.
    fn start_for(&self, why: u8) {
        let started = &self.0.started;
        let _ = started.compare_exchange(NOT_STARTED, why, Ordering::SeqCst, Ordering::SeqCst);
        self.0.notice.notify_waiters();
    }

    #[inline]
    pub(crate) fn has_started(&self) -> bool {
        self.0.started.load(Ordering::Relaxed) != NOT_STARTED
    }

    /// The close reason of conversations that have answered everything.
    pub(crate) fn close_reason(&self) -> CloseReason {
        if self.0.started.load(Ordering::Relaxed) == ENDPOINT_DRAINS {
            CloseReason::EndpointDrained
        } else {
            CloseReason::ServerStopped
        }
    }

    /// Whether both are the same drain.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn set_overdue(&self) {
        self.0.overdue.store(true, Ordering::Release);
    }

    pub(crate) fn is_overdue(&self) -> bool {
        self.0.overdue.load(Ordering::Acquire)
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
        match self.drain.0.started.load(Ordering::SeqCst) {
            NOT_STARTED => Poll::Pending,
            _ => Poll::Ready(()),
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
