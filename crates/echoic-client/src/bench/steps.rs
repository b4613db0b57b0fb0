//! A sequence of rates such as `1k..50k:+1k@5s`.

use std::{fmt, str::FromStr, time::Duration};

use echoic_core::units::{Rate, Span, UnitError, decimal, quoted};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use thiserror::Error;

/// Rates to run, each for the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// Requests per second, in ascending order.
    pub rates: Vec<f64>,
    /// Length of each step; the first fifth is not counted.
    pub each: Duration,
    text: String,
}

/// Order of the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Ascending.
    #[default]
    Up,
    /// Random, so that changes over time are not confused with effects of the rate.
    Shuffled,
    /// Ascending, then descending, which reveals a server that does not recover.
    Mirror,
}

/// Error from parsing steps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid steps {}: {why}", quoted(text))]
pub struct InvalidSteps {
    text: String,
    why: String,
}

const EXPECTED: &str = "expected FROM..TO:+BY@TIME or FROM..TO:xBY@TIME, for example 1k..50k:+1k@5s or 1k..50k:x1.5@5s";

const STEPS_MAX: usize = 1000;

impl Steps {
    /// Returns the rates in the given order.
    pub fn ordered(&self, order: Order, seed: u64) -> Vec<f64> {
        let mut rates = self.rates.clone();
        match order {
            Order::Up => {}
            Order::Shuffled => {
                let mut random = SmallRng::seed_from_u64(seed);
                // Fisher-Yates shuffle.
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
    type Err = InvalidSteps;

    fn from_str(text: &str) -> Result<Self, InvalidSteps> {
        parse(text).map_err(|why| InvalidSteps {
            text: text.to_owned(),
            why,
        })
    }
}

fn parse(text: &str) -> Result<Steps, String> {
    let expected = || EXPECTED.to_owned();
    let rate = |text: &str| {
        let rate: Result<Rate, UnitError> = text.parse();
        rate.map(|Rate(rate)| rate)
            .map_err(|error| error.to_string())
    };
    let (range, step) = text.split_once(':').ok_or_else(expected)?;
    let (from, to) = range.split_once("..").ok_or_else(expected)?;
    let (by, each) = step.split_once('@').ok_or_else(expected)?;
    let (from, to) = (rate(from)?, rate(to)?);
    if from > to {
        return Err("the lower rate comes first".to_owned());
    }
    let each: Result<Span, UnitError> = each.parse();
    let Span(each) = each.map_err(|error| error.to_string())?;
    if each.is_zero() {
        return Err("a step must be longer than 0s".to_owned());
    }
    let next: Box<dyn Fn(f64) -> f64> = if let Some(sum) = by.strip_prefix('+') {
        let sum = rate(sum)?;
        Box::new(move |rate| rate + sum)
    } else {
        let factor = by.strip_prefix(['x', 'X', '×']).ok_or_else(expected)?;
        let factor = decimal(factor).filter(|factor| (1.001..=1000.0).contains(factor));
        let factor = factor.ok_or("expected a factor from x1.001 to x1000")?;
        Box::new(move |rate| rate * factor)
    };
    let mut rates = Vec::new();
    let mut rate = from;
    // Sums of fractions that are inexact in binary may end slightly above.
    while rate <= to * (1.0 + 1e-9) {
        if rates.len() == STEPS_MAX {
            return Err(format!("more than {STEPS_MAX} steps"));
        }
        rates.push(rate);
        rate = next(rate);
    }
    let text = text.to_owned();
    Ok(Steps { rates, each, text })
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
    fn steps_add_or_multiply() {
        let steps: Steps = "1k..5k:+1k@5s".parse().unwrap();
        assert_eq!(steps.rates, [1e3, 2e3, 3e3, 4e3, 5e3]);
        assert_eq!(steps.each, Duration::from_secs(5));
        let steps: Steps = "100..1000:x2@500ms".parse().unwrap();
        assert_eq!(steps.rates, [100.0, 200.0, 400.0, 800.0]);
        let steps: Steps = "0.1..0.5:+0.1@1s".parse().unwrap();
        assert_eq!(steps.rates.len(), 5);
    }

    #[test]
    fn step_order_keeps_every_rate() {
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
    fn invalid_steps_list_the_valid_forms() {
        for (text, why) in [
            ("", "+1k@5s"),
            ("1k..2k", "+1k@5s"),
            ("1k..2k:+1k", "+1k@5s"),
            ("1k..zk:+1k@1s", "invalid rate zk: "),
            ("5..1:+1@1s", "the lower rate comes first"),
            ("1..2:x1@1s", "from x1.001 to x1000"),
            ("1..2:xnan@1s", "from x1.001 to x1000"),
            ("1..2:-1@1s", "+1k@5s"),
            ("1..1M:+1@1s", "more than 1000 steps"),
            ("1..2:+1@0s", "longer than 0s"),
            ("1..2:+1@x", "invalid duration x: "),
            ("1..2:+0@1s", "invalid rate 0: "),
        ] {
            let error = text.parse::<Steps>().unwrap_err().to_string();
            assert!(
                error.starts_with("invalid steps ") && error.contains(why),
                "{text}: {error}"
            );
        }
    }
}
