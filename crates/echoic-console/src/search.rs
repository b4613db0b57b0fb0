//! Searches over a long record, in parts: each is short, so that an answer can come in time with what was found so far.

use std::time::{Duration, Instant};

use echoic_core::{
    event::ExchangeId,
    exchange::Exchange,
    filter::{Filter, Sort, SortKey},
    store::{Order, Page, Store, StoreError},
};
use echoic_recorder::wall_clock_now;

use crate::problem::Problem;

/// Ids of the first part of a search. A part that was quick is followed by a larger one.
const PART_IDS: u64 = 20_000;

/// A part that took less is followed by one of twice its size.
const QUICK: Duration = Duration::from_millis(20);

/// Exchanges that are read at once.
const EXCHANGES_AT_ONCE: usize = 100;

/// Bytes after which a page ends early, so that a page of large messages does not fill the memory.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// A search for one page of exchanges.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) order: Order,
    /// Only beyond this id, in the direction of `order`.
    pub(crate) beyond: Option<ExchangeId>,
    /// Maximum number of results.
    pub(crate) limit: usize,
    /// When to answer with what was found.
    pub(crate) until: Instant,
}

/// The results of a search.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) exchanges: Vec<Exchange>,
    /// From where the next search goes on; `None` at the end of the record.
    pub(crate) next: Option<ExchangeId>,
    /// The last id that was looked at.
    pub(crate) to: ExchangeId,
    /// Number of ids that are left.
    pub(crate) left: u64,
    /// Whether it ended because the page is full, or at the end of the record. Else there was no time.
    pub(crate) done: bool,
}

impl Search<'_> {
    /// Searches until the page is full, the record or the time ends.
    pub(crate) async fn run(&self, store: &dyn Store) -> Result<Results, StoreError> {
        let last = store.last().await?.exchange;
        let mut at = Position::new(self, last);
        let mut results = Results::default();
        let mut bytes = 0;
        let mut part_ids = PART_IDS;
        while at.left() > 0 {
            let started = Instant::now();
            let end = at.after(part_ids);
            let page = Page {
                order: self.order,
                beyond: Some(at.id),
                until: Some(end),
                limit: EXCHANGES_AT_ONCE.min(self.limit - results.exchanges.len()),
                now: wall_clock_now(),
            };
            let found = store.find(self.filter, page).await?;
            at.id = found.next.unwrap_or(end);
            let sizes = found
                .exchanges
                .iter()
                .map(|one| one.request.len() + one.reply.len());
            bytes += sizes.sum::<usize>();
            results.exchanges.extend(found.exchanges);
            if results.exchanges.len() == self.limit || bytes > PAGE_BYTES_MAX {
                break;
            }
            // After at least one part, so that a search in many requests ends.
            if Instant::now() >= self.until && at.left() > 0 {
                return Ok(at.end(results, false));
            }
            if started.elapsed() < QUICK {
                part_ids = part_ids.saturating_mul(2);
            } else {
                part_ids = (part_ids / 2).max(PART_IDS);
            }
        }
        Ok(at.end(results, true))
    }
}

/// How far a search is.
struct Position {
    order: Order,
    /// The last id that was looked at.
    id: ExchangeId,
    /// The last id to look at.
    end: ExchangeId,
}

impl Position {
    fn new(search: &Search<'_>, last: ExchangeId) -> Self {
        let ids = search.filter.ids().hull();
        let (smallest, largest) = ids.map_or((1, 0), |ids| (*ids.start(), *ids.end()));
        let (smallest, largest) = (smallest.max(1), largest.min(last));
        let (id, end) = match search.order {
            Order::NewestFirst => {
                let beyond = search.beyond.unwrap_or(u64::MAX);
                (beyond.min(largest.saturating_add(1)), smallest)
            }
            Order::OldestFirst => (search.beyond.unwrap_or(0).max(smallest - 1), largest),
        };
        Self {
            order: search.order,
            id,
            end,
        }
    }

    fn left(&self) -> u64 {
        match self.order {
            Order::NewestFirst => self.id.saturating_sub(self.end),
            Order::OldestFirst => self.end.saturating_sub(self.id),
        }
    }

    /// The id `ids` further on, at most the end.
    fn after(&self, ids: u64) -> ExchangeId {
        match self.order {
            Order::NewestFirst => self.id.saturating_sub(ids).max(self.end),
            Order::OldestFirst => self.id.saturating_add(ids).min(self.end),
        }
    }

    fn end(&self, results: Results, done: bool) -> Results {
        let left = self.left();
        Results {
            next: (left > 0).then_some(self.id),
            to: self.id,
            left,
            done,
            ..results
        }
    }
}

/// Parses a filter.
pub(crate) fn filter(q: Option<&str>) -> Result<Filter, Problem> {
    Ok(Filter::parse(q.unwrap_or_default())?)
}

/// Returns the order that a filter asks for. Pages go by id, so no other order can be paged.
pub(crate) fn order(filter: &Filter) -> Result<Option<Order>, Problem> {
    match filter.sort() {
        None => Ok(None),
        Some(Sort {
            key: SortKey::Id | SortKey::Time,
            descending,
        }) => Ok(Some(if descending {
            Order::NewestFirst
        } else {
            Order::OldestFirst
        })),
        Some(_) => Err(Problem::invalid(
            "sort: takes id or t here, since pages go by id: sort the results yourself",
        )),
    }
}
