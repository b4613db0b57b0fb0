//! Checks whether a run was in a steady state, and computes the confidence interval of its mean.

use hdrhistogram::Histogram;

use super::{
    figures::{Second, rough_latencies},
    ratio::student,
};

/// Comparison of the two halves of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steady {
    /// Ratio of the median latency of the second half to that of the first.
    pub ratio: f64,
    /// Whether the medians are within 10 % of each other.
    pub is_steady: bool,
}

/// A mean with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// Mean in nanoseconds.
    pub nanos: f64,
    /// Half-width of the interval in nanoseconds.
    pub within: f64,
    /// Number of block means used.
    pub blocks: usize,
}

/// Number of blocks that the seconds are grouped into.
const BLOCKS: usize = 10;

impl Steady {
    /// Compares the halves; `None` below four seconds or without replies.
    pub fn of(series: &[Second]) -> Option<Self> {
        if series.len() < 4 {
            return None;
        }
        let (first, second) = series.split_at(series.len() / 2);
        let (first, second) = (median(first)?, median(second)?);
        let ratio = second / first;
        Some(Self {
            ratio,
            is_steady: (1.0 / 1.1..=1.1).contains(&ratio),
        })
    }
}

fn median(seconds: &[Second]) -> Option<f64> {
    let all = merged(seconds);
    (!all.is_empty()).then(|| all.value_at_quantile(0.5) as f64)
}

fn merged(seconds: &[Second]) -> Histogram<u64> {
    let mut all = rough_latencies();
    for second in seconds {
        // A histogram read from a file may have other bounds: values that do not fit are omitted.
        let _ = all.add(&second.due);
    }
    all
}

impl Mean {
    /// Computes the mean of at least two complete seconds. Latencies of neighbouring requests are correlated, so their number
    /// does not determine the precision; the means of blocks of seconds are nearly independent.
    pub fn of(series: &[Second]) -> Option<Self> {
        let size = series.len().div_ceil(BLOCKS).max(1);
        let blocks = series.chunks_exact(size).map(merged);
        let means: Vec<f64> = blocks
            .filter(|block| !block.is_empty())
            .map(|block| block.mean())
            .collect();
        let count = means.len();
        if count < 2 {
            return None;
        }
        let mean = means.iter().sum::<f64>() / count as f64;
        let squares = means
            .iter()
            .map(|block| (block - mean).powi(2))
            .sum::<f64>();
        let deviation = (squares / (count - 1) as f64).sqrt();
        Some(Self {
            nanos: mean,
            within: student(count as f64 - 1.0) * deviation / (count as f64).sqrt(),
            blocks: count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(latencies: &[u64]) -> Vec<Second> {
        let seconds = latencies.iter().map(|latency| {
            let mut second = Second::empty();
            second.due.record_n(*latency, 100).unwrap();
            second
        });
        seconds.collect()
    }

    #[test]
    fn differing_halves_are_not_steady() {
        let of = |latencies: &[u64]| Steady::of(&series(latencies)).map(|steady| steady.is_steady);
        assert_eq!(of(&[100_000, 100_000, 105_000, 105_000]), Some(true));
        assert_eq!(of(&[100_000, 100_000, 120_000, 120_000]), Some(false));
        assert_eq!(of(&[120_000, 120_000, 100_000, 100_000]), Some(false));
        assert_eq!(of(&[100_000, 100_000, 100_000]), None);
    }

    #[test]
    fn interval_width_follows_block_variance() {
        let none = Mean::of(&series(&[100_000; 10])).unwrap();
        assert!(none.within < 1.0 && none.blocks == 10);
        // For 1 and 3: a deviation of sqrt 2, an interval of 12.706 * sqrt 2 / sqrt 2.
        let two = Mean::of(&series(&[1_000_000, 3_000_000])).unwrap();
        assert!((two.nanos / 1e6 - 2.0).abs() < 0.02, "{two:?}");
        assert!((two.within / 1e6 - 12.7).abs() < 0.2, "{two:?}");
        assert_eq!(Mean::of(&series(&[1])), None);
        assert_eq!(Mean::of(&series(&[5_000; 25])).unwrap().blocks, 8);
    }
}
