//! Statistical comparison of two series of measurements.
//!
//! Even two runs of the same program differ. So each is measured several times, in turn (A B A B), and the repeats give a
//! confidence interval of the ratio: if the interval contains 1, no difference was observed.

/// Minimum number of repeats for an interval.
pub const REPEATS_MIN: usize = 5;

/// Ratio of B to A with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Estimate of the ratio.
    pub ratio: f64,
    /// Lower bound of the interval.
    pub low: f64,
    /// Upper bound of the interval.
    pub high: f64,
}

impl Ratio {
    /// Computes the ratio of figures measured in turn. The nth of both form a pair, so that slow drift (a machine that
    /// becomes warm) cancels out. `None` with fewer than [`REPEATS_MIN`] pairs, or if a figure is not above zero.
    pub fn of_pairs(a: &[f64], b: &[f64]) -> Option<Self> {
        let pairs = a.len().min(b.len());
        let differences: Vec<f64> = logs(&b[..pairs])?
            .iter()
            .zip(logs(&a[..pairs])?)
            .map(|(b, a)| b - a)
            .collect();
        let (mean, error) = mean_and_error(&differences)?;
        Some(Self::around(mean, error * student(pairs as f64 - 1.0)))
    }

    /// Computes the ratio of figures measured independently, with Welch's interval. `None` as for pairs.
    pub fn of_two(a: &[f64], b: &[f64]) -> Option<Self> {
        let (mean_a, error_a) = mean_and_error(&logs(a)?)?;
        let (mean_b, error_b) = mean_and_error(&logs(b)?)?;
        let (a2, b2) = (error_a.powi(2), error_b.powi(2));
        let error = (a2 + b2).sqrt();
        // Welch and Satterthwaite's degrees of freedom.
        let freedom = if error > 0.0 {
            let parts = a2.powi(2) / (a.len() as f64 - 1.0) + b2.powi(2) / (b.len() as f64 - 1.0);
            (a2 + b2).powi(2) / parts
        } else {
            f64::INFINITY
        };
        Some(Self::around(mean_b - mean_a, error * student(freedom)))
    }

    /// Returns whether the interval excludes 1.
    pub fn differs(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }

    /// Converts from logarithms, in which 1/2 and 2 are equally far from 1.
    fn around(log: f64, reach: f64) -> Self {
        Self {
            ratio: log.exp(),
            low: (log - reach).exp(),
            high: (log + reach).exp(),
        }
    }
}

fn logs(figures: &[f64]) -> Option<Vec<f64>> {
    let log = |figure: &f64| (figure.is_finite() && *figure > 0.0).then(|| figure.ln());
    figures.iter().map(log).collect()
}

/// Returns the mean and its standard error.
fn mean_and_error(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < REPEATS_MIN {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, (squares / (count - 1.0) / count).sqrt()))
}

/// Returns Student's t for a two-sided 95 % interval by degrees of freedom: from the tables up to 10, and beyond from a
/// series that is accurate to 0.001 (Abramowitz and Stegun, 26.7.5).
pub(super) fn student(freedom: f64) -> f64 {
    const FROM_ONE: [f64; 10] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    ];
    // Rounded down: the wider interval.
    let table = (1..)
        .zip(FROM_ONE)
        .take_while(|(row, _)| f64::from(*row) <= freedom.max(1.0));
    if let Some((_, t)) = table.last().filter(|_| freedom < 11.0) {
        return t;
    }
    let z: f64 = 1.959_964;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    use rand_distr::Normal;

    use super::*;

    #[test]
    fn student_t_matches_the_tables() {
        for (freedom, t) in [
            (1.0, 12.706),
            (4.0, 2.776),
            (10.9, 2.228),
            (11.0, 2.201),
            (30.0, 2.042),
            (1e9, 1.960),
        ] {
            assert!(
                (student(freedom) - t).abs() < 0.001,
                "{freedom}: {}",
                student(freedom)
            );
        }
    }

    #[test]
    fn clear_difference_is_detected_with_its_size() {
        let a = [100.0, 101.0, 99.0, 100.0, 102.0];
        let b = a.map(|figure| figure * 2.0);
        let ratio = Ratio::of_pairs(&a, &b).unwrap();
        assert!(ratio.differs());
        assert!((ratio.ratio - 2.0).abs() < 1e-9 && (ratio.high - 2.0).abs() < 1e-9);
        let ratio = Ratio::of_two(&a, &b).unwrap();
        assert!(
            ratio.differs() && ratio.low > 1.9 && ratio.high < 2.1,
            "{ratio:?}"
        );
    }

    /// A machine that becomes slower over time: pairs show a difference that two independent series do not.
    #[test]
    fn paired_ratio_ignores_drift() {
        let a = [100.0, 120.0, 140.0, 160.0, 180.0, 200.0];
        let b = a.map(|figure| figure * 1.03);
        assert!(Ratio::of_pairs(&a, &b).unwrap().differs());
        assert!(!Ratio::of_two(&a, &b).unwrap().differs());
    }

    #[test]
    fn too_few_or_zero_samples_give_no_ratio() {
        let four = [1.0, 1.1, 0.9, 1.0];
        let zero = [1.0, 0.0, 1.0, 1.0, 1.0];
        for (a, b) in [(&four[..], &four[..]), (&zero, &zero), (&[], &[])] {
            assert_eq!(Ratio::of_pairs(a, b), None);
            assert_eq!(Ratio::of_two(a, b), None);
        }
    }

    /// The interval contains the true ratio in 95 % of cases; the narrower one for a normal distribution does not.
    #[test]
    fn confidence_interval_covers_as_often_as_stated() {
        let mut random = SmallRng::seed_from_u64(7);
        let noise = Normal::new(0.0_f64, 0.1).unwrap();
        let [mut pairs, mut two, mut narrow] = [0_i32; 3];
        let trials = 4_000;
        for _ in 0..trials {
            let mut repeats = |truth: f64| [(); 5].map(|()| truth * random.sample(noise).exp());
            let (a, b) = (repeats(100.0), repeats(120.0));
            let holds = |ratio: Ratio| i32::from((ratio.low..=ratio.high).contains(&1.2));
            let paired = Ratio::of_pairs(&a, &b).unwrap();
            pairs += holds(paired);
            two += holds(Ratio::of_two(&a, &b).unwrap());
            let log = paired.ratio.ln();
            let reach = (paired.high.ln() - log) * 1.96 / student(4.0);
            narrow += holds(Ratio::around(log, reach));
        }
        let share = |count: i32| f64::from(count) / f64::from(trials);
        assert!((0.935..0.965).contains(&share(pairs)), "{}", share(pairs));
        assert!((0.935..0.975).contains(&share(two)), "{}", share(two));
        assert!(share(narrow) < 0.93, "the control: {}", share(narrow));
    }
}
