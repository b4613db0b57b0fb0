//! `--expect`: waits for an expected reply.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use echoic_client::ReplySearch;
use tokio::sync::Notify;

/// Searches received bytes for the expectation as they arrive, and wakes the task that waits for it.
pub(super) struct Matcher {
    search: Mutex<ReplySearch>,
    more: Notify,
}

impl Matcher {
    pub(super) fn new(search: ReplySearch) -> Self {
        Self {
            search: Mutex::new(search),
            more: Notify::new(),
        }
    }

    /// Adds received bytes.
    pub(super) fn push(&self, bytes: &[u8]) {
        self.search().push(bytes);
        self.more.notify_waiters();
    }

    /// The peer has ended its stream.
    pub(super) fn finish(&self) {
        self.search().finish();
        self.more.notify_waiters();
    }

    /// Drops all bytes, so that the next reply must match on its own.
    pub(super) fn clear(&self) {
        self.search().clear();
    }

    /// Waits until the bytes match.
    pub(super) async fn matched(&self) {
        let mut more = pin!(self.more.notified());
        loop {
            // Register before checking, so that no notification is missed in between.
            more.as_mut().enable();
            if self.search().is_met() {
                return;
            }
            more.as_mut().await;
            more.set(self.more.notified());
        }
    }

    fn search(&self) -> MutexGuard<'_, ReplySearch> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
