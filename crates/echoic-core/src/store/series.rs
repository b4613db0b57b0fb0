//! Counts of exchanges over time.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use crate::{
    event::{EndpointInfo, Micros, Outcome},
    exchange::ExchangeRef,
};

/// Counts of exchanges over time, from a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// A bucket for each step, endpoint and outcome that has an exchange, in the order of their keys.
    pub buckets: BTreeMap<SeriesKey, Bucket>,
}

impl Series {
    /// Adds all buckets of another series.
    pub fn merge(&mut self, other: Self) {
        for (key, bucket) in other.buckets {
            self.buckets.entry(key).or_default().merge(&bucket);
        }
    }
}

/// Counts exchanges one by one into a [`Series`].
#[derive(Debug)]
pub struct SeriesBuilder {
    times: Range<Micros>,
    step: Micros,
    /// Buckets by step, endpoint and outcome. An endpoint is known by the address of its value, which the entry keeps alive:
    /// so no exchange needs a copy of its names.
    buckets: HashMap<(Micros, usize, Outcome), (Arc<EndpointInfo>, Bucket)>,
}

impl SeriesBuilder {
    /// Counts exchanges within `times`, in steps of `step` microseconds (at least 1).
    pub fn new(times: Range<Micros>, step: Micros) -> Self {
        Self {
            times,
            step: step.max(1),
            buckets: HashMap::new(),
        }
    }

    /// Counts an exchange, if it is within the times.
    pub fn add(&mut self, exchange: &ExchangeRef<'_>) {
        if !self.times.contains(&exchange.at) {
            return;
        }
        let start = self.times.start;
        // Both are within i64, but their difference may not be.
        let steps = (i128::from(exchange.at) - i128::from(start)) / i128::from(self.step);
        let at = start.saturating_add(
            self.step
                .saturating_mul(i64::try_from(steps).unwrap_or(i64::MAX)),
        );
        let endpoint_info = &exchange.conversation.endpoint_info;
        let key = (at, Arc::as_ptr(endpoint_info).addr(), exchange.outcome);
        let (_, bucket) = self
            .buckets
            .entry(key)
            .or_insert_with(|| (Arc::clone(endpoint_info), Bucket::default()));
        bucket.exchanges += 1;
        bucket.request_bytes += exchange.request.len() as u64;
        bucket.reply_bytes += exchange.reply.len() as u64;
        bucket.latencies.add(exchange.latency_ns, 1);
    }

    /// Returns the counts.
    pub fn finish(self) -> Series {
        let mut series = Series::default();
        for ((at, _, outcome), (endpoint_info, bucket)) in self.buckets {
            let key = SeriesKey {
                at,
                endpoint: endpoint_info.name.clone(),
                service: endpoint_info.service.clone(),
                outcome,
            };
            series.buckets.entry(key).or_default().merge(&bucket);
        }
        series
    }
}

/// What the exchanges of a [`Bucket`] have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Beginning of the step.
    pub at: Micros,
    /// Short name of the endpoint.
    pub endpoint: String,
    /// The service.
    pub service: String,
    /// Their outcome.
    pub outcome: Outcome,
}

/// Exchanges of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Their number.
    pub exchanges: u64,
    /// Bytes of their requests.
    pub request_bytes: u64,
    /// Bytes of their replies.
    pub reply_bytes: u64,
    /// Their latencies.
    pub latencies: Latencies,
}

impl Bucket {
    /// Adds the exchanges of another bucket.
    pub fn merge(&mut self, other: &Self) {
        self.exchanges += other.exchanges;
        self.request_bytes += other.request_bytes;
        self.reply_bytes += other.reply_bytes;
        self.latencies.merge(&other.latencies);
    }
}

/// A histogram of latencies with a relative error of at most 1/32, which can be merged without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(BTreeMap<u16, u64>);

impl Latencies {
    /// Sub-buckets of each power of two.
    const SUB_BITS: u32 = 4;

    /// Adds `count` latencies of `ns` nanoseconds.
    pub fn add(&mut self, ns: u64, count: u64) {
        *self.0.entry(Self::index(ns)).or_default() += count;
    }

    /// Adds all latencies of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in &other.0 {
            *self.0.entry(*index).or_default() += count;
        }
    }

    /// Returns the number of latencies.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the latency, in nanoseconds, that the fraction `quantile` (0 to 1) does not exceed: the middle of its bucket. `None`
    /// if there is no latency.
    #[expect(clippy::cast_sign_loss, reason = "it is at least 1")]
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let rank = (quantile.clamp(0.0, 1.0) * self.count() as f64)
            .ceil()
            .max(1.0) as u64;
        let mut seen = 0;
        self.0.iter().find_map(|(index, count)| {
            seen += count;
            let (from, to) = Self::bounds(*index);
            (seen >= rank).then_some(from + (to - from) / 2)
        })
    }

    /// Returns each bucket as its smallest latency, the smallest above it, and the number of latencies, in increasing order.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.0.iter().map(|(index, count)| {
            let (from, to) = Self::bounds(*index);
            (from, to, *count)
        })
    }

    fn index(ns: u64) -> u16 {
        let sub = 1 << Self::SUB_BITS;
        if ns < sub {
            return ns as u16;
        }
        let shift = ns.ilog2() - Self::SUB_BITS;
        ((u64::from(shift) << Self::SUB_BITS) + (ns >> shift)) as u16
    }

    fn bounds(index: u16) -> (u64, u64) {
        let sub = 1u64 << Self::SUB_BITS;
        let index = u64::from(index);
        if index < 2 * sub {
            return (index, index + 1);
        }
        let shift = (index >> Self::SUB_BITS) - 1;
        let from = (index - (shift << Self::SUB_BITS)) << shift;
        (from, from.saturating_add(1 << shift))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn latency_lies_in_its_bucket(ns: u64) {
            let (from, to) = Latencies::bounds(Latencies::index(ns));
            prop_assert!(from <= ns && (ns < to || to == u64::MAX));
            prop_assert!((to - from) as f64 <= (from as f64 / 16.0).max(1.0));
        }
    }

    #[test]
    fn quantiles_of_one_and_of_many() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        latencies.add(7, 1);
        assert_eq!(latencies.quantile(0.0), Some(7));
        for ns in 1..=1000 {
            latencies.add(ns * 1000, 1);
        }
        for (part, expected) in [(0.5, 500_000.0), (0.99, 990_000.0)] {
            let found = latencies.quantile(part).unwrap_or(0) as f64;
            let error = (found / expected - 1.0).abs();
            assert!(error < 1.0 / 32.0, "{part}: {found}");
        }
        assert_eq!(latencies.count(), 1001);
    }
}
