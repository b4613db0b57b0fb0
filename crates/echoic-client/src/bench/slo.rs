//! Service level objectives such as `p99<5ms, loss<0.1%, errors=0`, and their check against figures.

use std::{fmt, str::FromStr, time::Duration};

use echoic_core::units::{Count, Percent, Rate, Span, UnitError, decimal, quoted};
use thiserror::Error;

use super::figures::Figures;

/// A list of terms that must all be met.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo(Vec<Term>);

/// One term of an SLO.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    metric: Metric,
    comparison: Comparison,
    /// In the unit of the metric: nanoseconds, a share from 0 to 1, requests per second or a count.
    bound: f64,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    /// Latency from the due time that this share did not exceed.
    Percentile(f64),
    Mean,
    Max,
    Loss,
    Errors,
    Wrong,
    Rate,
    Delivered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

/// Result of checking a term.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The term as it was written.
    pub term: String,
    /// The measured value in the same unit; `None` without measurements, which meets no term.
    pub value: Option<String>,
    /// Whether the term was met.
    pub met: bool,
}

/// Error from parsing a term.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid term {}: {why}", quoted(text))]
pub struct InvalidSlo {
    text: String,
    why: String,
}

const EXPECTED_TERM: &str = "expected p50, p99, p99.9, mean or max with a duration (p99<5ms), loss<0.1%, delivered>99%, rate>9k, errors=0 or wrong=0";
const EXPECTED_SIGN: &str =
    "expected one of < <= > >= = after its name, for example p99<5ms, loss<0.1% or errors=0";

impl Slo {
    /// Checks each term.
    pub fn judge(&self, figures: &Figures) -> Vec<Judged> {
        self.0.iter().map(|term| term.judge(figures)).collect()
    }

    /// Returns whether all terms are met.
    pub fn is_met(&self, figures: &Figures) -> bool {
        self.0.iter().all(|term| term.judge(figures).met)
    }

    /// Returns the smallest latency bound, if there is one.
    pub fn latency(&self) -> Option<Duration> {
        let times = self.0.iter().filter(|term| term.metric.is_time());
        let shortest = times.map(|term| term.bound).reduce(f64::min)?;
        Duration::try_from_secs_f64(shortest / 1e9).ok()
    }
}

impl Metric {
    fn is_time(self) -> bool {
        matches!(self, Self::Percentile(_) | Self::Mean | Self::Max)
    }

    fn is_share(self) -> bool {
        matches!(self, Self::Loss | Self::Delivered)
    }

    fn of(self, figures: &Figures) -> Option<f64> {
        let due = &figures.due;
        match self {
            _ if figures.asked == 0 => None,
            Self::Percentile(share) => Some(due.value_at_quantile(share) as f64),
            Self::Mean => Some(due.mean()),
            Self::Max => Some(due.max() as f64),
            Self::Loss => Some(figures.loss()),
            Self::Errors => Some(figures.errors() as f64),
            Self::Wrong => Some((figures.wrong + figures.failures.extra) as f64),
            Self::Rate => Some(figures.done_per_s()),
            Self::Delivered => Some(figures.delivered()),
        }
    }
}

impl Term {
    fn judge(&self, figures: &Figures) -> Judged {
        let value = self.metric.of(figures);
        let met = value.is_some_and(|value| match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::More => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
            Comparison::Equal => (value - self.bound).abs() < f64::EPSILON,
        });
        let format_value = |value: f64| {
            if self.metric.is_time() {
                format!("{:.3}ms", value / 1e6)
            } else if self.metric.is_share() {
                format!("{:.3}%", value * 100.0)
            } else {
                format!("{value:.0}")
            }
        };
        Judged {
            term: self.text.clone(),
            value: value.map(format_value),
            met,
        }
    }
}

impl FromStr for Slo {
    type Err = InvalidSlo;

    fn from_str(text: &str) -> Result<Self, InvalidSlo> {
        let terms = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self(terms))
    }
}

impl FromStr for Term {
    type Err = InvalidSlo;

    fn from_str(text: &str) -> Result<Self, InvalidSlo> {
        let text = text.trim();
        parse_term(text).map_err(|why| InvalidSlo {
            text: text.to_owned(),
            why,
        })
    }
}

fn parse_term(text: &str) -> Result<Term, String> {
    let at = text.find(['<', '>', '=']).ok_or(if text.is_empty() {
        EXPECTED_TERM
    } else {
        EXPECTED_SIGN
    })?;
    let (name, rest) = (text[..at].trim(), &text[at..]);
    let signs = [
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("==", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::More),
        ("=", Comparison::Equal),
    ];
    let sign = signs.into_iter().find(|(sign, _)| rest.starts_with(sign));
    let (sign, comparison) = sign.ok_or(EXPECTED_SIGN)?;
    let value = rest[sign.len()..].trim();
    let metric = match &*name.to_ascii_lowercase() {
        "mean" => Metric::Mean,
        "max" => Metric::Max,
        "loss" => Metric::Loss,
        "errors" => Metric::Errors,
        "wrong" => Metric::Wrong,
        "rate" => Metric::Rate,
        "delivered" => Metric::Delivered,
        percentile => {
            let percent = percentile.strip_prefix('p').and_then(decimal);
            let percent = percent
                .filter(|percent| *percent <= 100.0)
                .ok_or(EXPECTED_TERM)?;
            Metric::Percentile(percent / 100.0)
        }
    };
    let bound = parse_bound(metric, value).map_err(|error| error.to_string())?;
    let text = text.to_owned();
    Ok(Term {
        metric,
        comparison,
        bound,
        text,
    })
}

/// Parses the bound in the unit of the metric.
fn parse_bound(metric: Metric, text: &str) -> Result<f64, UnitError> {
    Ok(if metric.is_time() {
        text.parse::<Span>()?.0.as_nanos() as f64
    } else if metric.is_share() {
        text.parse::<Percent>()?.0
    } else if metric == Metric::Rate {
        text.parse::<Rate>()?.0
    } else {
        text.parse::<Count>()?.0 as f64
    })
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", term.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures;

    fn figures() -> Figures {
        let mut figures = figures::tests::empty(10.0);
        figures.asked = 1000;
        figures.lost = 5;
        figures.done = 995;
        for index in 0..1000 {
            figures
                .due
                .record(if index < 985 { 1_000_000 } else { 8_000_000 })
                .unwrap();
        }
        figures
    }

    #[test]
    fn slo_terms_are_evaluated() {
        for (text, met) in [
            ("p98<2ms", true),
            ("p99<5ms", false),
            ("p99 <= 8.1ms", true),
            ("p50>=900us", true),
            ("max<8ms", false),
            ("mean<1.2ms", true),
            ("loss<0.5%", false),
            ("loss<=0.5%", true),
            ("loss<0.6%", true),
            ("delivered>99%", true),
            ("errors=0", false),
            ("errors==5", true),
            ("wrong=0", true),
            ("rate>99/s", true),
            ("rate>9k", false),
            ("errors<1k", true),
            ("P50<0.5s", true),
            ("max<=1m30s", true),
            ("mean<1", true),
        ] {
            assert_eq!(
                text.parse::<Slo>().unwrap().is_met(&figures()),
                met,
                "{text}"
            );
        }
        let slo: Slo = "p99<5ms, loss<0.6%,errors=0".parse().unwrap();
        let judged = slo.judge(&figures());
        assert_eq!(
            judged.iter().map(|term| term.met).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert_eq!(judged[1].value.as_deref(), Some("0.500%"));
        assert_eq!(slo.to_string(), "p99<5ms, loss<0.6%, errors=0");
        assert_eq!(slo.latency(), Some(Duration::from_millis(5)));
    }

    #[test]
    fn slo_without_measurements_is_not_met() {
        let slo: Slo = "errors=0".parse().unwrap();
        assert!(!slo.is_met(&figures::tests::empty(1.0)));
    }

    #[test]
    fn invalid_slo_lists_the_valid_forms() {
        for (text, why) in [
            ("", "loss<0.1%"),
            ("p99", "one of < <= > >= ="),
            ("p99<", "invalid duration \"\": "),
            ("p99<5x", "invalid duration 5x: unknown unit x"),
            ("p101<5ms", "loss<0.1%"),
            ("pnan<5ms", "loss<0.1%"),
            ("loss<0.1", "invalid share 0.1: expected a percentage"),
            ("rate>x", "invalid rate x: "),
            ("speed>3", "loss<0.1%"),
            ("errors=-1", "invalid count -1: "),
            ("p99<5ms,", "loss<0.1%"),
            ("p99<-5ms", "invalid duration -5ms: "),
        ] {
            let error = text.parse::<Slo>().unwrap_err().to_string();
            assert!(
                error.starts_with("invalid term ") && error.contains(why),
                "{text}: {error}"
            );
        }
    }
}
