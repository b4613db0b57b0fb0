//! Latencies in a log-linear histogram: constant memory, about 1 % error, ns to minutes.

/// Linear steps in each power of two; a bucket is at most 1/128 of its value wide.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts of values, exact below 128 and within 0.8 % above.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// Returns an empty histogram of about 60 KiB.
    pub(crate) fn new() -> Self {
        Self {
            buckets: vec![0; bucket(u64::MAX) + 1],
            count: 0,
            max: 0,
        }
    }

    /// Counts `value` `times` times.
    pub(crate) fn record(&mut self, value: u64, times: u64) {
        self.buckets[bucket(value)] += times;
        self.count += times;
        self.max = self.max.max(value);
    }

    /// How many values were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exact; 0 when there is none.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The least value that `percent` of all values do not exceed, rounded up to its bucket's
    /// end; 0 when there is none.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, times) in self.buckets.iter().enumerate() {
            seen += times;
            if seen >= rank {
                return last(index).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    let octave = (value | (STEPS - 1)).ilog2() - (STEP_BITS - 1);
    if octave == 0 {
        return value as usize;
    }
    let step = value >> (octave - 1);
    (u64::from(octave - 1) * STEPS + step) as usize
}

/// The largest value of a bucket.
fn last(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    let step = index % STEPS + STEPS;
    (step << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_contiguous() {
        let mut next = 0;
        for index in 0..=bucket(u64::MAX) {
            assert_eq!(bucket(next), index);
            assert_eq!(bucket(last(index)), index);
            next = last(index).wrapping_add(1);
        }
        assert_eq!(next, 0, "the last bucket ends with u64::MAX");
    }

    #[test]
    fn empty_histogram_reports_zero() {
        let empty = Histogram::new();
        assert_eq!(
            (empty.count(), empty.percentile(50), empty.max()),
            (0, 0, 0)
        );
    }

    proptest! {
        #[test]
        fn percentile_is_exact_within_one_bucket(
            mut values in prop::collection::vec(0_u64..10_000_000_000, 1..500),
            percent in 0_u64..=100,
        ) {
            let mut histogram = Histogram::new();
            for value in &values {
                histogram.record(*value, 1);
            }
            values.sort_unstable();
            let rank = (values.len() * percent as usize).div_ceil(100).max(1);
            let exact = values[rank - 1];
            let estimate = histogram.percentile(percent);
            prop_assert!(estimate >= exact && estimate - exact <= exact / STEPS, "{estimate} for {exact}");
            prop_assert_eq!(histogram.max(), values[values.len() - 1]);
        }
    }
}
