//! Counts of a running server, for reports on its state.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::session::Totals;

/// A handle to the counts of a server, also while it runs and drains.
#[derive(Clone, Debug, Default)]
pub struct ServerCounters {
    pub(crate) totals: Arc<Totals>,
    pub(crate) connections: Arc<Connections>,
}

/// Connections of all stream endpoints.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) accepted: AtomicU64,
    pub(crate) rejected: AtomicU64,
    /// Accepted, not rejected, and not over yet.
    pub(crate) open: AtomicU64,
}

/// The counts of a server at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerCounts {
    /// Connections accepted on stream endpoints, without those beyond a limit.
    pub accepted: u64,
    /// Connections rejected because of a limit or an access list.
    pub rejected: u64,
    /// Accepted connections that are open.
    pub open: u64,
    /// Exchanges of conversations that have ended. Those of open ones are added at their end, so that an exchange costs no
    /// access to memory that workers share.
    pub served_in_ended: u64,
}

impl ServerCounters {
    /// Returns the counts of now.
    pub fn now(&self) -> ServerCounts {
        let Connections {
            accepted,
            rejected,
            open,
        } = &*self.connections;
        ServerCounts {
            accepted: accepted.load(Ordering::Relaxed),
            rejected: rejected.load(Ordering::Relaxed),
            open: open.load(Ordering::Relaxed),
            served_in_ended: self.totals.served.load(Ordering::Relaxed),
        }
    }
}
