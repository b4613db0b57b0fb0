//! Rates one after the other: `1k..50k:+1k@5s`.

use std::{fmt, str::FromStr, time::Duration};

use echoic_core::size::Span;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use thiserror::Error;

use super::slo::rate;

/// Rates to be tried, each for the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// Requests a second, in ascending order.
    pub rates: Vec<f64>,
    /// How long each takes, of which the first fifth is not counted.
    pub each: Duration,
    text: String,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Ascending.
    #[default]
    Up,
    /// At random, so that what changes over time is not taken for what changes with the rate.
    Shuffled,
    /// Ascending, and down again: a server that does not recover shows.
    Mirror,
}

/// A text that says no steps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} are no steps; write 1k..50k:+1k@5s, or 1k..50k:x1.5@5s (at most 1,000 of them)")]
pub struct NoSteps(String);

const STEPS_MAX: usize = 1000;

impl Steps {
    /// The rates in that order.
    pub fn ordered(&self, order: Order, seed: u64) -> Vec<f64> {
        let mut rates = self.rates.clone();
        match order {
            Order::Up => {}
            Order::Shuffled => {
                let mut random = SmallRng::seed_from_u64(seed);
                // Fisher and Yates.
                for last in (1..rates.len()).rev() {
                    rates.swap(last, random.random_range(0..=last));
                }
            }
            Order::Mirror => rates.extend(self.rates.iter().rev().skip(1)),
        }
        rates
    }
}

impl FromStr for Steps {
    type Err = NoSteps;

    fn from_str(text: &str) -> Result<Self, NoSteps> {
        parse(text).ok_or_else(|| NoSteps(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Steps> {
    let (range, how) = text.split_once(':')?;
    let (from, to) = range.split_once("..")?;
    let (from, to) = (rate(from)?, rate(to)?);
    let (by, each) = how.split_once('@')?;
    let Span(each) = each.parse().ok().filter(|Span(each)| !each.is_zero())?;
    let next: Box<dyn Fn(f64) -> f64> = if let Some(sum) = by.strip_prefix('+') {
        let sum = rate(sum)?;
        Box::new(move |rate| rate + sum)
    } else {
        let factor: f64 = by.strip_prefix(['x', '×'])?.parse().ok()?;
        if !(1.001..=1000.0).contains(&factor) {
            return None;
        }
        Box::new(move |rate| rate * factor)
    };
    let mut rates = Vec::new();
    let mut rate = from;
    // Sums of what has no end in binary end a little above.
    while rate <= to * (1.0 + 1e-9) {
        if rates.len() == STEPS_MAX {
            return None;
        }
        rates.push(rate);
        rate = next(rate);
    }
    let text = text.to_owned();
    (!rates.is_empty()).then_some(Steps { rates, each, text })
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_sums_or_products() {
        let steps: Steps = "1k..5k:+1k@5s".parse().unwrap();
        assert_eq!(steps.rates, [1e3, 2e3, 3e3, 4e3, 5e3]);
        assert_eq!(steps.each, Duration::from_secs(5));
        let steps: Steps = "100..1000:x2@500ms".parse().unwrap();
        assert_eq!(steps.rates, [100.0, 200.0, 400.0, 800.0]);
        let steps: Steps = "0.1..0.5:+0.1@1s".parse().unwrap();
        assert_eq!(steps.rates.len(), 5);
    }

    #[test]
    fn an_order_keeps_every_rate() {
        let steps: Steps = "1..50:+1@1s".parse().unwrap();
        let mut shuffled = steps.ordered(Order::Shuffled, 7);
        assert_ne!(shuffled, steps.rates);
        assert_eq!(shuffled, steps.ordered(Order::Shuffled, 7));
        shuffled.sort_by(f64::total_cmp);
        assert_eq!(shuffled, steps.rates);
        let mirrored = steps.ordered(Order::Mirror, 0);
        assert_eq!(mirrored.len(), 99);
        assert!(mirrored.iter().eq(mirrored.iter().rev()));
    }

    #[test]
    fn nonsense_is_refused_with_what_there_is() {
        for text in [
            "",
            "1k..2k",
            "1k..2k:+1k",
            "5..1:+1@1s",
            "1..2:x1@1s",
            "1..2:-1@1s",
            "1..1M:+1@1s",
            "1..2:+1@0s",
            "1..2:+0@1s",
        ] {
            let said = text.parse::<Steps>().unwrap_err().to_string();
            assert!(said.contains("+1k@5s"), "{text}: {said}");
        }
    }
}
