//! The stop signal as a conversation sees it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{Notify, futures::OwnedNotified};

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
