//! Durations with units.

use std::{fmt, str::FromStr, time::Duration};

use super::{UnitError, decimal::Decimal, error::Why};

/// A duration of up to 584 years (64 bits of nanoseconds). Prints in the largest unit that gives an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

const SPAN: &str = "seconds, or a number with a unit, for example 5, 250ms, 1.5h or 1m30s";
const UNITS: &str = "ns, us, ms, s, m, h, d or w";

/// Units for printing, in nanoseconds.
const PRINTED: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const SECOND: u64 = 1_000_000_000;

/// Returns the nanoseconds of a unit. `M` is not a unit of time, because in a retention it is a size.
fn nanoseconds(unit: &str) -> Option<u64> {
    if unit == "M" {
        return None;
    }
    Some(match &*unit.to_ascii_lowercase() {
        "ns" | "nsec" | "nsecs" => 1,
        "us" | "µs" | "μs" | "usec" | "usecs" => 1_000,
        "ms" | "msec" | "msecs" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "week" | "weeks" => 604_800 * SECOND,
        _ => return None,
    })
}

impl Span {
    /// Parses a duration and the precision it is written in, in nanoseconds: 1 s for `1m30s`, 100 ms for `0.5s`. In a
    /// filter, a single duration matches all that are rounded to it.
    pub(crate) fn with_step(text: &str) -> Result<(Self, u64), UnitError> {
        parse(text).map_err(|why| UnitError::new("duration", text, why))
    }
}

fn parse(text: &str) -> Result<(Span, u64), Why> {
    let (mut total, mut step) = (0_u64, u64::MAX);
    let mut rest = text;
    loop {
        let is_first = rest.len() == text.len();
        let (number, after) = Decimal::split(rest).ok_or(Why::Expected(SPAN))?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, left) = after.split_at(end.unwrap_or(after.len()));
        let factor = match unit {
            "" if is_first => SECOND,
            "" => return Err(Why::Expected(SPAN)),
            _ => nanoseconds(unit).ok_or_else(|| Why::unit(unit, UNITS))?,
        };
        // Units must descend, so that none is given twice.
        if factor >= step {
            return Err(Why::Expected(SPAN));
        }
        let part = number.times(factor, "nanosecond")?;
        total = total.checked_add(part).ok_or(Why::TooLarge)?;
        if left.is_empty() {
            let step = factor / 10_u64.pow(number.fraction_digits);
            return Ok((Span(Duration::from_nanos(total)), step.max(1)));
        }
        (rest, step) = (left, factor);
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::with_step(text).map(|(span, _)| span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let is_whole =
            |&&(_, factor): &&(&str, u64)| ns.is_multiple_of(factor.into()) && ns >= factor.into();
        let (unit, factor) = PRINTED.iter().find(is_whole).unwrap_or(&("s", 1));
        write!(f, "{}{unit}", ns / u128::from(*factor))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0.5s", 500_000_000, 100_000_000)]
    #[case("1.5h", 5_400_000_000_000, 360_000_000_000)]
    #[case("10sec", 10_000_000_000, SECOND)]
    #[case("10min", 600_000_000_000, 60 * SECOND)]
    #[case("1m30s", 90_000_000_000, SECOND)]
    #[case("1h1m1.5s", 3_661_500_000_000, 100_000_000)]
    #[case("1w", 604_800_000_000_000, 604_800 * SECOND)]
    #[case("250ms", 250_000_000, 1_000_000)]
    #[case("50us", 50_000, 1_000)]
    #[case("50µs", 50_000, 1_000)]
    #[case("7ns", 7, 1)]
    #[case("5", 5_000_000_000, SECOND)]
    #[case(".25", 250_000_000, 10_000_000)]
    #[case("2 Days", 0, 0)]
    #[case("2Days", 172_800_000_000_000, 86_400 * SECOND)]
    fn durations_parse_with_units_and_precision(
        #[case] text: &str,
        #[case] ns: u64,
        #[case] step: u64,
    ) {
        let parsed = Span::with_step(text).ok();
        let expected = (step > 0).then(|| (Span(Duration::from_nanos(ns)), step));
        assert_eq!(parsed, expected);
    }

    #[rstest]
    #[case("", "invalid duration \"\": expected seconds, or a number with a unit")]
    #[case("soon", "invalid duration soon: expected")]
    #[case("-1s", "invalid duration -1s: expected")]
    #[case("+1s", "invalid duration +1s: expected")]
    #[case("nan", "invalid duration nan: expected")]
    #[case("inf", "invalid duration inf: expected")]
    #[case("1e3s", "invalid duration 1e3s: unknown unit e; expected ns, us, ms")]
    #[case("5x", "invalid duration 5x: unknown unit x; expected ns, us, ms")]
    #[case("7M", "invalid duration 7M: unknown unit M; expected ns, us, ms")]
    #[case("1m30", "invalid duration 1m30: expected")]
    #[case("30s1m", "invalid duration 30s1m: expected")]
    #[case("1s1s", "invalid duration 1s1s: expected")]
    #[case("1.s", "invalid duration 1.s: expected")]
    #[case("1.2.3s", "invalid duration 1.2.3s: expected")]
    #[case(
        "0.5ns",
        "invalid duration 0.5ns: expected no fraction of a nanosecond"
    )]
    #[case("600y", "invalid duration 600y: unknown unit y")]
    #[case("31000w", "invalid duration 31000w: the number is too large")]
    #[case(
        "99999999999999999999s",
        "invalid duration 99999999999999999999s: the number is too large"
    )]
    fn invalid_duration_is_rejected_with_a_reason(#[case] text: &str, #[case] message: &str) {
        let error = text.parse::<Span>().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }

    proptest! {
        #[test]
        fn parse_and_print_are_inverse(ns: u64) {
            let span = Span(Duration::from_nanos(ns));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
