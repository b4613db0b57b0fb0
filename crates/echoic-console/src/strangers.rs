//! Connections that have not shown the token or the password: each has a few seconds, and the oldest gives way to a new one.
//!
//! Anyone on this host can connect. Without this, those who do and send nothing, or ask for the open routes again and again, could
//! have all connections of the console.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// Time of a connection until a request on it has shown the token; with TLS, as much before that for its handshake.
pub(crate) const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// The connections that have not shown the token, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// A connection, which is a stranger until it has shown the token.
#[derive(Debug)]
pub(crate) struct Connection {
    strangers: Arc<Strangers>,
    number: u64,
    gives_way: Arc<Notify>,
    is_known: AtomicBool,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A new one needs its place.
    GiveWay,
    /// It has not shown the token in time.
    Late,
}

impl Strangers {
    /// Adds a new connection.
    pub(crate) fn add(self: &Arc<Self>) -> Connection {
        let gives_way = Arc::new(Notify::new());
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, Arc::clone(&gives_way));
        Connection {
            strangers: Arc::clone(self),
            number,
            gives_way,
            is_known: AtomicBool::new(false),
        }
    }

    /// Has the oldest one end.
    pub(crate) fn end_oldest(&self) {
        if let Some((_, oldest)) = self.state().waiting.pop_first() {
            oldest.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Notes that a request has shown the token.
    pub(crate) fn has_shown_the_token(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed) {
            self.strangers.state().waiting.remove(&self.number);
        }
    }

    /// Returns once it has to end; never if the token was shown in time.
    pub(crate) async fn must_end(&self) -> End {
        let told = timeout(SHOWN_WITHIN, self.gives_way.notified()).await;
        if self.is_known.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        match told {
            Ok(()) => End::GiveWay,
            Err(_) => End::Late,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.strangers.state().waiting.remove(&self.number);
    }
}
