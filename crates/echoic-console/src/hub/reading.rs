//! Reads from the store what the feed does not bring: earlier exchanges, and those of other processes.

use std::sync::Arc;

use echoic_core::{
    event::ExchangeId,
    exchange::Exchange,
    filter::{Atom, Filter, Ranges},
    store::{Order, Page, Store, StoreError},
};
use echoic_recorder::wall_clock_now;

/// Exchanges read at once. Each can have a mebibyte.
const AT_ONCE: usize = 50;

/// Most exchanges that are read for a stream. More are reported as a gap.
pub(super) const READ_MAX: u64 = 1000;

/// Reads the exchanges of a range of ids, in their order.
pub(super) struct Reading {
    store: Arc<dyn Store>,
    filter: Filter,
    /// The last id that was read.
    at: ExchangeId,
    /// The last id to read.
    to: ExchangeId,
}

impl Reading {
    /// Reads exchanges with an id after `after`, up to and including `to`.
    pub(super) fn new(
        store: &Arc<dyn Store>,
        filter: Filter,
        after: ExchangeId,
        to: ExchangeId,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            filter,
            at: after,
            to,
        }
    }

    /// Returns the number of exchanges, if it is at most [`READ_MAX`]; else the count as an error.
    pub(super) async fn check(&self) -> Result<Result<(), u64>, StoreError> {
        if self.to.saturating_sub(self.at) <= READ_MAX {
            return Ok(Ok(()));
        }
        let ids = Ranges::from_iter([self.at + 1..=self.to]);
        let filter = self.filter.and(Atom::Id(ids));
        let count = self.store.count(&filter, wall_clock_now()).await?;
        Ok(if count <= READ_MAX {
            Ok(())
        } else {
            Err(count)
        })
    }

    /// Returns the last id that was read.
    pub(super) fn at(&self) -> ExchangeId {
        self.at
    }

    /// Returns the next exchanges; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Exchange>>, StoreError> {
        while self.at < self.to {
            let page = Page {
                order: Order::OldestFirst,
                beyond: Some(self.at),
                until: Some(self.to),
                limit: AT_ONCE,
                now: wall_clock_now(),
            };
            let found = self.store.find(&self.filter, page).await?;
            self.at = found.next.unwrap_or(self.to);
            // A store can return nothing for a part of a long range.
            if !found.exchanges.is_empty() {
                return Ok(Some(found.exchanges));
            }
        }
        Ok(None)
    }
}
