//! Figures over time, from the store.

mod counted;
mod reading;
mod spans;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use echoic_core::{
    event::Micros,
    filter::Filter,
    store::{Latencies, Series, Store, StoreError},
};
use echoic_recorder::wall_clock_now;
use tokio::time::timeout_at;

use self::{counted::Counts, spans::Spans};
pub(crate) use self::{
    reading::NotRead,
    spans::{BySteps, OfStep},
};
use crate::problem::Problem;

/// Most steps of an answer.
pub(crate) const STEPS_MAX: i64 = 720;

/// How long the list of conversations is held: the requests of one refresh of a page share it.
const CONVERSATIONS_HELD: Duration = Duration::from_secs(1);

/// Figures over time, with those that were read before.
#[derive(Debug)]
pub(crate) struct SeriesCache {
    /// One request reads at a time: the others find what it has read.
    counts: tokio::sync::Mutex<Counts>,
    conversations: Mutex<Option<(String, Instant, Arc<Spans>)>>,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) filter: Filter,
    /// A multiple of `step`.
    pub(crate) from: Micros,
    /// A multiple of `step`.
    pub(crate) to: Micros,
    pub(crate) step: Micros,
}

impl Range {
    /// Checks a range of times. By default the last five minutes, in about thirty steps.
    pub(crate) fn new(
        filter: Filter,
        (from, to): (Option<Micros>, Option<Micros>),
        step: Option<Duration>,
    ) -> Result<Self, Problem> {
        /// The year 2255: beyond, a number of JSON is not exact.
        const TIME_MAX: Micros = 1 << 53;
        let to = to.unwrap_or_else(wall_clock_now);
        let from = from.unwrap_or_else(|| to.saturating_sub(300_000_000));
        if !(0..=TIME_MAX).contains(&from) || !(0..=TIME_MAX).contains(&to) || from >= to {
            return Err(Problem::invalid(
                "invalid from_us and to_us: expected microseconds since 1970, from_us before to_us",
            ));
        }
        let step = match step {
            None => default_step(to - from),
            Some(step) => Micros::try_from(step.as_micros()).unwrap_or(TIME_MAX),
        };
        let invalid = || {
            let shortest = (to - from).div_euclid(STEPS_MAX) + 1;
            Problem::invalid(format!(
                "invalid step: expected at most {STEPS_MAX} steps, so at least {} ms for this time",
                shortest.div_euclid(1000) + 1
            ))
        };
        if step <= 0 || step > TIME_MAX {
            return Err(invalid());
        }
        let (from, to) = (
            from.div_euclid(step) * step,
            (to - 1).div_euclid(step) * step + step,
        );
        if (to - from) / step > STEPS_MAX + 1 {
            return Err(invalid());
        }
        Ok(Self {
            filter,
            from,
            to,
            step,
        })
    }

    pub(crate) fn steps(&self) -> usize {
        usize::try_from((self.to - self.from) / self.step).unwrap_or(0)
    }

    /// Returns the time at which each step begins.
    pub(crate) fn times(&self) -> impl Iterator<Item = Micros> {
        times(self.from..self.to, self.step)
    }

    /// Returns the step of a time; `None` if it is not within the range.
    fn index(&self, at: Micros) -> Option<usize> {
        let index = (at - self.from).div_euclid(self.step);
        usize::try_from(index)
            .ok()
            .filter(|index| *index < self.steps())
    }

    /// Whether what a query selects never changes once it is recorded, and is long to read.
    fn can_be_held(&self) -> bool {
        const FEW: u64 = 64;
        let query = self.filter.to_string();
        let volatile = [
            "since:", "before:", "after:", "is:", "end:", "tag:", "note:", "THEN",
        ];
        // The store finds the exchanges of few conversations without reading the rest.
        let conversations = self.filter.conversations().hull();
        let are_few = conversations.is_some_and(|ids| ids.end() - ids.start() < FEW);
        !are_few && !volatile.iter().any(|word| query.contains(word))
    }
}

/// Returns the time at which each step of a range begins.
fn times(range: std::ops::Range<Micros>, step: Micros) -> impl Iterator<Item = Micros> {
    std::iter::successors(Some(range.start), move |at| at.checked_add(step))
        .take_while(move |at| *at < range.end)
}

/// Returns a round step of which about thirty make a span.
fn default_step(span: Micros) -> Micros {
    const SECONDS: [i64; 15] = [
        1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400,
    ];
    let fits = |step: &i64| span / (step * 1_000_000) <= 30;
    let days = (span / 30 / 86_400_000_000) + 1;
    SECONDS.into_iter().find(fits).unwrap_or(days * 86_400) * 1_000_000
}

impl SeriesCache {
    /// `owns`: only this process can prune exchanges of the record, and none delete them.
    pub(crate) fn new(owns: bool) -> Self {
        Self {
            counts: tokio::sync::Mutex::new(Counts::new(owns)),
            conversations: Mutex::default(),
        }
    }

    /// Returns the figures of a range, if they are read before the deadline. What was read is held, so that the next request goes
    /// on from there.
    pub(crate) async fn series(
        &self,
        store: &dyn Store,
        range: &Range,
        until: Instant,
    ) -> Result<Series, NotRead> {
        if !range.can_be_held() {
            let times = range.from..range.to;
            let now = wall_clock_now();
            return Ok(store.series(&range.filter, times, range.step, now).await?);
        }
        let Ok(mut counts) = timeout_at(until.into(), self.counts.lock()).await else {
            return Err(NotRead::Busy);
        };
        counts.series(store, range, until).await
    }

    /// Returns the conversations of a range, by step, and whether there are older ones that were not looked at.
    pub(crate) async fn conversations(
        &self,
        store: &dyn Store,
        range: &Range,
    ) -> Result<(BySteps, bool), StoreError> {
        let query = range.filter.to_string();
        let lock = || {
            let held = self.conversations.lock();
            held.unwrap_or_else(PoisonError::into_inner)
        };
        let held = lock().clone();
        let held =
            held.filter(|(known, at, _)| *known == query && at.elapsed() < CONVERSATIONS_HELD);
        let spans = match held {
            Some((.., spans)) => spans,
            None => {
                let spans = Arc::new(Spans::read(store, &range.filter).await?);
                *lock() = Some((query, Instant::now(), Arc::clone(&spans)));
                spans
            }
        };
        Ok((spans.by_step(range), spans.is_partial()))
    }
}

/// Returns the largest latency, with the error of the histogram.
pub(crate) fn largest(latencies: &Latencies) -> Option<u64> {
    let last = latencies.buckets().last();
    last.map(|(from, to, _)| to.saturating_sub(1).max(from))
}
