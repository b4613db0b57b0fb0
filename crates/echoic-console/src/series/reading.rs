//! Reads the record for a query, a part at a time, so that a long read can go on in the next request.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use echoic_core::{
    event::{ExchangeId, Micros},
    filter::{Atom, Filter, Ranges},
    store::{Series, Store, StoreError},
};
use echoic_recorder::wall_clock_now;

use crate::problem::Problem;

/// Ids of the first part, and the fewest of one. A part that was quick is followed by a larger one.
const PART_IDS: u64 = 20_000;
const PART_IDS_MIN: u64 = 100;

/// A part that took less is followed by one of twice its size; one that took more than [`SLOW`], by one of half of it.
const QUICK: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(500);

/// Why there are no figures.
#[derive(Debug)]
pub(crate) enum NotRead {
    Store(StoreError),
    /// There was no time to read all; this part, in percent, is read.
    Unfinished(u64),
    /// Another request reads.
    Busy,
}

impl From<StoreError> for NotRead {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<NotRead> for Problem {
    fn from(error: NotRead) -> Self {
        let detail = match error {
            NotRead::Store(error) => return error.into(),
            NotRead::Unfinished(percent) => format!(
                "{percent} % of the record is counted so far: ask again, the count goes on from there"
            ),
            NotRead::Busy => {
                "the record is being counted for another request: ask again".to_owned()
            }
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

/// The exchanges of some ids and times, being counted.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) times: Range<Micros>,
    first: ExchangeId,
    next: ExchangeId,
    pub(super) last: ExchangeId,
    part_ids: u64,
    pub(super) counted: Series,
}

impl Reading {
    /// Begins to read the exchanges with ids from `first` to `last`.
    pub(super) fn new(times: Range<Micros>, (first, last): (ExchangeId, ExchangeId)) -> Self {
        Self {
            times,
            first,
            next: first,
            last,
            part_ids: PART_IDS,
            counted: Series::default(),
        }
    }

    /// Reads on until all is read or there is no more time; at least one part.
    pub(super) async fn go_on(
        &mut self,
        store: &dyn Store,
        (filter, step): (&Filter, Micros),
        until: Instant,
    ) -> Result<(), NotRead> {
        while self.next <= self.last {
            let started = Instant::now();
            let end = self.last.min(self.next.saturating_add(self.part_ids - 1));
            let part_ids = self.part_ids;
            // If the request is given up meanwhile, the next one tries a smaller part.
            self.part_ids = (part_ids / 2).max(PART_IDS_MIN);
            let ids = Ranges::from_iter([self.next..=end]);
            let part = filter.and(Atom::Id(ids));
            let counted = store.series(&part, self.times.clone(), step, wall_clock_now());
            self.counted.merge(counted.await?);
            self.next = end + 1;
            let took = started.elapsed();
            if took < QUICK {
                self.part_ids = part_ids.saturating_mul(2);
            } else if took < SLOW {
                self.part_ids = part_ids;
            }
            if Instant::now() >= until && self.next <= self.last {
                let (read, all) = (self.next - self.first, self.last + 1 - self.first);
                return Err(NotRead::Unfinished(read.saturating_mul(100) / all));
            }
        }
        Ok(())
    }
}
