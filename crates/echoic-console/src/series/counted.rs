//! Counts of exchanges that were read before. Those that may still change are read again; an older one is read once for a query.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops,
    time::{Duration, Instant},
};

use echoic_core::{
    event::{ConversationId, ExchangeId, Micros},
    filter::{Atom, Filter, Ranges, When},
    store::{Order, Page, Series, Stats, Store, StoreError},
};
use echoic_recorder::wall_clock_now;

use super::{NotRead, Range, STEPS_MAX, reading::Reading};

/// Most pairs of a query and a step whose steps are held.
const QUERIES_MAX: usize = 16;

/// Most steps of one query that are held.
const HELD_MAX: i64 = 4 * STEPS_MAX;

/// An exchange that was committed so long ago is settled: a reply that proves to be unsent has done so by then.
const SETTLES: Micros = 60_000_000;

/// Exchanges that are not settled are read again after this time; those that are newer still, for each request.
const AGAIN: Micros = 10_000_000;

/// If the record has fewer exchanges, all is read again, at most once in this time: another process may have pruned some, or
/// deleted any.
const EXPIRES: Micros = 300_000_000;

/// Most times at which the last id is known, and the least time between two of them.
const MARKS_MAX: usize = 128;
const MARKS_APART: Micros = 5_000_000;

/// What the clocks of the processes that record and read may differ by.
const CLOCKS_DIFFER: Micros = 10_000_000;

/// Those that are not settled are read whatever time a request has: there are few.
const UNBOUNDED: Duration = Duration::from_hours(1);

/// What was counted, by query and step.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Whether only this process can prune exchanges, and none delete them.
    owns: bool,
    queries: HashMap<Key, Steps>,
    /// The figures of the store at the last request.
    stats: Stats,
    /// The last exchange at the last request, by which the record is known to be the same.
    last: Option<Known>,
    /// When all was read anew since exchanges were gone.
    renewed: Micros,
    /// The last id at some times: what is read later than such a time has a larger id.
    marks: VecDeque<(Micros, ExchangeId)>,
    /// The last exchange that was settled before the first of these times, as far as its own time tells.
    settled_before: ExchangeId,
}

type Key = (String, Micros);

/// An exchange: its id, its time and its conversation.
type Known = (ExchangeId, Micros, ConversationId);

/// The steps of a query that were read.
#[derive(Debug, Default)]
struct Steps {
    /// The times of these steps, without a gap.
    times: ops::Range<Micros>,
    /// The settled exchanges of each step that has some.
    by_time: BTreeMap<Micros, Series>,
    /// The last settled exchange that is counted.
    counted_to: ExchangeId,
    /// What is being read of settled exchanges.
    reading: Option<Reading>,
    recent: Option<Recent>,
    used: Option<Instant>,
}

/// Exchanges that are not settled.
#[derive(Debug)]
struct Recent {
    times: ops::Range<Micros>,
    read_at: Micros,
    /// Ids of the first and of the last of them.
    ids: (ExchangeId, ExchangeId),
    counted: Series,
}

impl Counts {
    pub(super) fn new(owns: bool) -> Self {
        Self {
            owns,
            ..Self::default()
        }
    }

    /// Returns the counts of a range, if all are read before the deadline.
    pub(super) async fn series(
        &mut self,
        store: &dyn Store,
        range: &Range,
        until: Instant,
    ) -> Result<Series, NotRead> {
        let stats = store.stats().await?;
        let last = store.last().await?.exchange;
        let now = wall_clock_now();
        if let Some(known) = self.last
            && exchange(store, known.0).await? != Some(known)
        {
            // It was deleted, or another record has taken the place of this one.
            self.forget_all(now);
        }
        self.last = exchange(store, last).await?;
        self.forget_deleted(stats, now);
        if self.marks.is_empty() {
            self.settled_before = newest_before(store, now - SETTLES).await?;
        }
        self.mark(now, last);
        let settled = self.last_at(now - SETTLES).unwrap_or(self.settled_before);
        let key = (range.filter.to_string(), range.step);
        let query = (&range.filter, range.step);
        let marks = self.marks.clone();
        let first_of = |at: Micros| {
            let before = marks
                .iter()
                .rev()
                .find(|(time, _)| *time <= at - CLOCKS_DIFFER);
            before.map_or(1, |(_, last)| last + 1)
        };
        let steps = steps(&mut self.queries, &key);
        loop {
            if steps.reading.is_none() {
                steps.reading = steps.next_reading(range, settled.min(last), first_of);
            }
            let Some(reading) = &mut steps.reading else {
                break;
            };
            reading.go_on(store, query, until).await?;
            steps.hold(range);
        }
        let newest = steps.read_recent(store, query, (last, now)).await?;
        Ok(steps.sum(range, newest))
    }

    fn forget_all(&mut self, now: Micros) {
        self.queries.clear();
        self.marks.clear();
        self.renewed = now;
    }

    /// Forgets steps whose exchanges were pruned or deleted.
    fn forget_deleted(&mut self, stats: Stats, now: Micros) {
        let before = self.stats;
        let is_fewer = stats.exchanges < before.exchanges;
        let may_be_deleted = !self.owns && now - self.renewed >= EXPIRES;
        if is_fewer && (stats.oldest == before.oldest || may_be_deleted) {
            self.forget_all(now);
        } else if stats.oldest != before.oldest && before.oldest.is_some() {
            let oldest = stats.oldest.unwrap_or(Micros::MAX);
            for ((_, step), steps) in &mut self.queries {
                steps.forget_before(oldest, *step);
            }
        }
        self.stats = stats;
    }

    /// Notes that all exchanges up to `last` were committed at `now`, so read before.
    fn mark(&mut self, now: Micros, last: ExchangeId) {
        // The clock may have been set back.
        while self.marks.back().is_some_and(|(at, _)| *at > now) {
            self.marks.pop_back();
        }
        if self
            .marks
            .back()
            .is_none_or(|(at, _)| now - at >= MARKS_APART)
        {
            self.marks.push_back((now, last));
        }
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// Returns the last id at a time, or at some time before it, if that is known.
    fn last_at(&self, at: Micros) -> Option<ExchangeId> {
        let mut marks = self.marks.iter().rev();
        marks.find(|(time, _)| *time <= at).map(|(_, last)| *last)
    }
}

/// Returns what identifies an exchange, if it is in the store.
async fn exchange(store: &dyn Store, id: ExchangeId) -> Result<Option<Known>, StoreError> {
    let filter = Filter::all().and(Atom::Id(Ranges::from_iter([id..=id])));
    newest(store, &filter).await
}

/// Returns the id of the newest exchange that was read before a time; 0 if there is none.
async fn newest_before(store: &dyn Store, at: Micros) -> Result<ExchangeId, StoreError> {
    let filter = Filter::all().and(Atom::Before(When::At(at)));
    Ok(newest(store, &filter).await?.map_or(0, |(id, ..)| id))
}

async fn newest(store: &dyn Store, filter: &Filter) -> Result<Option<Known>, StoreError> {
    let page = Page {
        order: Order::NewestFirst,
        beyond: None,
        until: None,
        limit: 1,
        now: 0,
    };
    let found = store.find(filter, page).await?.exchanges.into_iter().next();
    Ok(found.map(|found| (found.id, found.at, found.conversation.id)))
}

/// Returns the steps of a query, which takes the place of the one that was not asked for the longest time.
fn steps<'a>(queries: &'a mut HashMap<Key, Steps>, key: &Key) -> &'a mut Steps {
    if !queries.contains_key(key) && queries.len() >= QUERIES_MAX {
        let oldest = queries.iter().min_by_key(|(_, steps)| steps.used);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            queries.remove(&oldest);
        }
    }
    let steps = queries.entry(key.clone()).or_default();
    steps.used = Some(Instant::now());
    steps
}

impl Steps {
    /// Returns what is to be read next, up to the last settled exchange. `first_of` returns the smallest id of what was read at a
    /// time or later.
    fn next_reading(
        &mut self,
        range: &Range,
        settled: ExchangeId,
        first_of: impl Fn(Micros) -> ExchangeId,
    ) -> Option<Reading> {
        if range.from > self.times.end || range.to < self.times.start || self.times.is_empty() {
            self.times = range.from..range.from;
            self.by_time.clear();
            self.counted_to = settled;
            self.recent = None;
        }
        let Self {
            ref times,
            counted_to,
            ..
        } = *self;
        if counted_to < settled && !times.is_empty() {
            let new = (counted_to + 1, settled);
            return Some(Reading::new(times.clone(), new));
        }
        let missing = if range.from < times.start {
            range.from..times.start
        } else if range.to > times.end {
            times.end..range.to
        } else {
            return None;
        };
        let ids = (first_of(missing.start), counted_to);
        Some(Reading::new(missing, ids))
    }

    /// Holds what was read. Of too many steps the ones of `range` stay.
    fn hold(&mut self, range: &Range) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        let Self { times, .. } = self;
        if times.is_empty() {
            *times = reading.times;
        } else {
            *times = times.start.min(reading.times.start)..times.end.max(reading.times.end);
        }
        self.counted_to = reading.last;
        for (key, bucket) in reading.counted.buckets {
            let step = self.by_time.entry(key.at).or_default();
            step.buckets.entry(key).or_default().merge(&bucket);
        }
        let most = HELD_MAX.saturating_mul(range.step);
        if self.times.end - self.times.start > most {
            if range.from - self.times.start > self.times.end - range.to {
                self.times.start = self.times.end - most;
            } else {
                self.times.end = self.times.start + most;
            }
            let times = self.times.clone();
            self.by_time.retain(|at, _| times.contains(at));
        }
    }

    /// Reads the exchanges that are not settled. Returns those since the last time that all of them were read.
    async fn read_recent(
        &mut self,
        store: &dyn Store,
        query: (&Filter, Micros),
        (last, now): (ExchangeId, Micros),
    ) -> Result<Series, NotRead> {
        let until = Instant::now() + UNBOUNDED;
        let first = self.counted_to + 1;
        let is_current = |recent: &Recent| {
            recent.times == self.times && recent.ids.0 == first && now - recent.read_at < AGAIN
        };
        if !self.recent.as_ref().is_some_and(is_current) {
            let mut reading = Reading::new(self.times.clone(), (first, last));
            reading.go_on(store, query, until).await?;
            self.recent = Some(Recent {
                times: self.times.clone(),
                read_at: now,
                ids: (first, last),
                counted: reading.counted,
            });
        }
        let after = self.recent.as_ref().map_or(0, |recent| recent.ids.1);
        let mut newest = Reading::new(self.times.clone(), (after + 1, last));
        newest.go_on(store, query, until).await?;
        Ok(newest.counted)
    }

    /// Returns the counts of a range that is held.
    fn sum(&self, range: &Range, newest: Series) -> Series {
        let mut sum = newest;
        if let Some(recent) = &self.recent {
            sum.merge(recent.counted.clone());
        }
        sum.buckets
            .retain(|key, _| (range.from..range.to).contains(&key.at));
        for (_, step) in self.by_time.range(range.from..range.to) {
            sum.merge(step.clone());
        }
        sum
    }

    /// Forgets the steps that have lost exchanges, since none before `oldest` are left.
    fn forget_before(&mut self, oldest: Micros, step: Micros) {
        let first = oldest
            .div_euclid(step)
            .saturating_add(1)
            .saturating_mul(step);
        self.times.start = first.clamp(self.times.start, self.times.end);
        self.by_time = self.by_time.split_off(&first);
        (self.reading, self.recent) = (None, None);
    }
}
