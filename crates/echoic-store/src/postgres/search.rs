//! Finds and counts exchanges: reads the runs that a search covers, a chunk at a time.
//!
//! Each chunk is a transaction of its own, so that a search of any length holds up nobody, and other reads come in between.

use std::{
    collections::VecDeque,
    ops::{ControlFlow, Range, RangeInclusive},
    sync::Arc,
};

use echoic_core::{
    event::{ExchangeId, Micros},
    exchange::ExchangeRef,
    filter::Filter,
    store::{Found, Order, Page, StoreError},
};

use super::{
    labels,
    plan::Plan,
    readers::Readers,
    row,
    runs::{ROWS_MAX, Runs, Selection, Stretch},
    sequence,
    snapshot::{Attempts, ReadError, Snapshot, read},
    sql::{Parameters, bigint},
};
use crate::scan::{self, Scan};

/// Rows of the first chunk of a page: a page often ends in it.
const ROWS_MIN: u64 = 64;

/// Maximum of conversations for which a search is narrowed to their runs. With more, some are likely open all the time.
const CONVERSATIONS_NARROWED_MAX: u64 = 64;

/// Returns a page of the exchanges that `filter` selects.
pub(super) async fn find(
    readers: Arc<Readers>,
    filter: Filter,
    page: Page,
) -> Result<Found, StoreError> {
    let rows = (page.limit as u64).saturating_mul(2);
    let mut search = Search::new(Scan::page(&filter, page), rows);
    let mut found = Found::default();
    while !search.is_done() {
        let exchanges = &mut found.exchanges;
        let take = |exchange: ExchangeRef<'_>| exchanges.push(exchange.into_owned());
        search.chunk(&readers, take).await?;
    }
    let last = found.exchanges.last().map(|last| last.id);
    found.next = last.filter(|_| search.scan.has_more());
    Ok(found)
}

/// Returns the number of exchanges that `filter` selects.
pub(super) async fn count(
    readers: Arc<Readers>,
    filter: Filter,
    now: Micros,
) -> Result<u64, StoreError> {
    if scan::selects_all(&filter) && filter.steps().is_empty() {
        return read(&readers, total).await;
    }
    let mut search = Search::all(&filter, now);
    let mut total = 0;
    while !search.is_done() {
        if search.plan.is_exact {
            total += search.count_chunk(&readers).await?;
        } else {
            search.chunk(&readers, |_| total += 1).await?;
        }
    }
    Ok(total)
}

/// Returns the number of all exchanges.
async fn total(now: Snapshot<'_>) -> Result<u64, ReadError> {
    let row = now
        .query_one("SELECT exchanges FROM state", &Parameters::default())
        .await?;
    let total = row.map_or(Ok(0), |row| row::number(&row, 0))?;
    now.end().await?;
    Ok(total)
}

/// A search in progress.
pub(super) struct Search {
    scan: Scan,
    plan: Plan,
    /// Rows of the next chunk.
    rows: u64,
    /// Whether the ids of the search were narrowed.
    is_narrowed: bool,
}

impl Search {
    /// Creates a search whose first chunk has at most `rows` rows.
    fn new(scan: Scan, rows: u64) -> Self {
        // A sequence reads each chunk twice.
        let rows = if scan.sequence.is_some() {
            ROWS_MAX
        } else {
            rows
        };
        Self {
            plan: Plan::of_runs(&scan.filter, scan.now).within(&scan.times),
            scan,
            rows: rows.clamp(ROWS_MIN, ROWS_MAX),
            is_narrowed: false,
        }
    }

    /// Creates a search for all exchanges.
    pub(super) fn all(filter: &Filter, now: Micros) -> Self {
        Self::new(Scan::all(filter, now), ROWS_MAX)
    }

    /// Creates a search for all exchanges with ids up to `last`.
    pub(super) fn all_until(filter: &Filter, now: Micros, last: ExchangeId) -> Self {
        let mut scan = Scan::all(filter, now);
        scan.narrow(0, last);
        Self::new(scan, ROWS_MAX)
    }

    /// Creates a search for all exchanges of some times.
    pub(super) fn all_within(filter: &Filter, now: Micros, times: &Range<Micros>) -> Self {
        let mut scan = Scan::all(filter, now);
        scan.narrow_times(times.start, times.end.saturating_sub(1));
        Self::new(scan, ROWS_MAX)
    }

    /// Whether it is at its end.
    pub(super) fn is_done(&self) -> bool {
        self.scan.is_done()
    }

    /// Reads the next chunk and calls `take` with each exchange found.
    pub(super) async fn chunk(
        &mut self,
        readers: &Readers,
        mut take: impl FnMut(ExchangeRef<'_>),
    ) -> Result<(), StoreError> {
        let Some((stretch, runs)) = self.next(readers).await? else {
            return Ok(());
        };
        let scan = &mut self.scan;
        let mut left = false;
        let visited = runs.visit(|conversation, exchanges| {
            if !scan.may_match(conversation) {
                return ControlFlow::Continue(());
            }
            let mut exchanges = exchanges.iter();
            while !scan.is_full() {
                match exchanges.next() {
                    Some(exchange) if scan.accepts(exchange) => take(*exchange),
                    Some(_) => {}
                    None => break,
                }
            }
            left = exchanges.any(|exchange| scan.ids.contains(&exchange.id));
            if scan.is_full() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let stopped = visited.map_err(|why| why.into_store_error(readers))?;
        scan.cursor = stopped.or(runs.stopped).or(Some(match scan.order {
            Order::NewestFirst => stretch.low,
            Order::OldestFirst => stretch.high,
        }));
        self.rows = (self.rows * 4).min(ROWS_MAX);
        if scan.is_full() {
            let has_more = left || self.has_more(readers).await?;
            self.scan.stop(has_more);
        }
        Ok(())
    }

    /// Counts the exchanges of the next chunk, of which the condition decides alone.
    async fn count_chunk(&mut self, readers: &Readers) -> Result<u64, StoreError> {
        let mut attempts = Attempts::default();
        loop {
            let counted = match Snapshot::begin(readers).await {
                Ok(now) => self.count_in(now).await,
                Err(why) => Err(why),
            };
            match counted {
                Ok(counted) => return Ok(counted),
                Err(why) => attempts.fail(why, readers)?,
            }
        }
    }

    async fn count_in(&mut self, now: Snapshot<'_>) -> Result<u64, ReadError> {
        self.narrow_once(&now).await?;
        let Some(stretch) = self.stretch(&now).await? else {
            now.end().await?;
            self.scan.stop(false);
            return Ok(0);
        };
        let mut parameters = self.plan.parameters.clone();
        let within = stretch.condition(&mut parameters);
        let sql = format!(
            "SELECT coalesce(sum(r.count), 0) {} WHERE {within} AND {}",
            self.plan.from, self.plan.condition
        );
        let row = now.query_one(&sql, &parameters).await?;
        let count = row.map_or(Ok(0), |row| row::number(&row, 0))?;
        now.end().await?;
        self.scan.cursor = Some(stretch.high);
        Ok(count)
    }

    /// Reads the runs of the next chunk. `None` if it has none, or if the search is at its end.
    async fn next(&mut self, readers: &Readers) -> Result<Option<(Stretch, Runs)>, StoreError> {
        let mut attempts = Attempts::default();
        loop {
            let read = match Snapshot::begin(readers).await {
                Ok(now) => self.next_in(now).await,
                Err(why) => Err(why),
            };
            match read {
                Ok(read) => return Ok(read),
                Err(why) => attempts.fail(why, readers)?,
            }
        }
    }

    async fn next_in(&mut self, now: Snapshot<'_>) -> Result<Option<(Stretch, Runs)>, ReadError> {
        self.narrow_once(&now).await?;
        let Some(mut stretch) = self.stretch(&now).await? else {
            now.end().await?;
            self.scan.stop(false);
            return Ok(None);
        };
        if self.scan.sequence.is_some() {
            let resolved = sequence::resolve(&now, &mut self.scan, &self.plan, stretch).await?;
            match resolved {
                Some(resolved) => stretch = resolved,
                None => {
                    now.end().await?;
                    return Ok(None);
                }
            }
        }
        let selection = Selection {
            plan: &self.plan,
            order: self.scan.order,
            rows: self.rows,
            with_bytes: self.scan.with_bytes,
        };
        let runs = Runs::read(&now, stretch, &selection).await?;
        now.end().await?;
        Ok(Some((stretch, runs)))
    }

    /// Returns the next ids to read.
    async fn stretch(&mut self, now: &Snapshot<'_>) -> Result<Option<Stretch>, ReadError> {
        let scan = &mut self.scan;
        loop {
            let (ids, is_last) = match &scan.ranges {
                None => (scan.ids.clone(), true),
                Some(ranges) => match ranges.front() {
                    None => return Ok(None),
                    Some(range) => (intersection(range, &scan.ids), false),
                },
            };
            let left = rest(&ids, scan.cursor, scan.order);
            if !left.is_empty()
                && let Some(mut stretch) =
                    Stretch::first(now, scan.order, &left, &scan.times).await?
            {
                // The smallest id of all may be inside a run that begins before it.
                if stretch.low == *ids.start() {
                    stretch.include_run(now).await?;
                    // That run may have been read for the ids before.
                    if let (Order::OldestFirst, Some(cursor)) = (scan.order, scan.cursor) {
                        stretch.low = stretch.low.max(cursor.saturating_add(1));
                    }
                }
                return Ok(Some(stretch));
            }
            if is_last {
                return Ok(None);
            }
            scan.ranges.as_mut().and_then(VecDeque::pop_front);
        }
    }

    /// Whether there are runs beyond those that were read.
    async fn has_more(&self, readers: &Readers) -> Result<bool, StoreError> {
        let scan = &self.scan;
        let ranges = match &scan.ranges {
            None => vec![scan.ids.clone()],
            Some(ranges) => ranges
                .iter()
                .map(|range| intersection(range, &scan.ids))
                .collect(),
        };
        let is_left =
            |ids: &&RangeInclusive<ExchangeId>| !rest(ids, scan.cursor, scan.order).is_empty();
        let (low, high): (Vec<i64>, Vec<i64>) = ranges
            .iter()
            .filter(is_left)
            .map(|ids| {
                let left = rest(ids, scan.cursor, scan.order);
                (bigint(*ids.start()), bigint(*left.end()))
            })
            .unzip();
        if low.is_empty() {
            return Ok(false);
        }
        let after = match (scan.order, scan.cursor) {
            (Order::OldestFirst, Some(cursor)) => cursor.saturating_add(1),
            _ => 0,
        };
        read(readers, |now| {
            let (low, high) = (low.clone(), high.clone());
            async move {
                let mut parameters = Parameters::default();
                let (low, high) = (parameters.numbers(low), parameters.numbers(high));
                let after = parameters.id(after);
                // The smallest id may be inside a run that begins before it.
                let sql = format!(
                    "SELECT EXISTS (
                        SELECT FROM unnest({low}, {high}) AS ids (low, high)
                        WHERE EXISTS (SELECT FROM run WHERE id BETWEEN
                            greatest({after}, coalesce((SELECT max(id) FROM run WHERE id <= ids.low), ids.low))
                            AND ids.high))"
                );
                let row = now.query_one(&sql, &parameters).await?;
                let has_more = row.is_some_and(|row| row.try_get(0).unwrap_or(false));
                now.end().await?;
                Ok(has_more)
            }
        })
        .await
    }

    async fn narrow_once(&mut self, now: &Snapshot<'_>) -> Result<(), ReadError> {
        if !self.is_narrowed {
            self.narrow(now).await?;
            self.is_narrowed = true;
        }
        Ok(())
    }

    /// Narrows the search to the runs of the conversations selected by id, and to what has the labels it requires.
    async fn narrow(&mut self, now: &Snapshot<'_>) -> Result<(), ReadError> {
        let scan = &mut self.scan;
        let labelled = labels::narrow(now, scan.filter.expr()).await?;
        scan.ranges = labelled.map(|ids| {
            let ids = ids.iter();
            match scan.order {
                Order::OldestFirst => ids.collect(),
                Order::NewestFirst => ids.collect::<Vec<_>>().into_iter().rev().collect(),
            }
        });
        let (from, to) = (*scan.conversations.start(), *scan.conversations.end());
        if to - from >= CONVERSATIONS_NARROWED_MAX {
            return Ok(());
        }
        let mut parameters = Parameters::default();
        let (from, to) = (parameters.id(from), parameters.id(to));
        let sql = format!(
            "SELECT min(first_run), max(last_run), count(*) - count(last_run) FROM conversation
            WHERE id BETWEEN {from} AND {to}"
        );
        let Some(row) = now.query_one(&sql, &parameters).await? else {
            return Ok(());
        };
        // Without a row for any of them their openings were not recorded, and their runs may be anywhere.
        if let Some(first) = row::optional_number(&row, 0)? {
            let open = row::number(&row, 2)?;
            let last = row::optional_number(&row, 1)?.filter(|_| open == 0);
            scan.narrow(first, last.unwrap_or(u64::MAX));
        }
        Ok(())
    }
}

/// Returns the ids that are left after the run `cursor` was read.
fn rest(
    ids: &RangeInclusive<ExchangeId>,
    cursor: Option<u64>,
    order: Order,
) -> RangeInclusive<ExchangeId> {
    let (low, high) = (*ids.start(), *ids.end());
    match (cursor, order) {
        (None, _) => low..=high,
        (Some(cursor), Order::OldestFirst) => low.max(cursor.saturating_add(1))..=high,
        (Some(cursor), Order::NewestFirst) => low..=high.min(cursor.saturating_sub(1)),
    }
}

fn intersection(
    one: &RangeInclusive<ExchangeId>,
    other: &RangeInclusive<ExchangeId>,
) -> RangeInclusive<ExchangeId> {
    *one.start().max(other.start())..=*one.end().min(other.end())
}
