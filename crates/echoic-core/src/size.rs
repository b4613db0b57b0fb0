//! Sizes and durations as people type them: `1M`, `64k`, `5s`, `250ms`, `10m`.
//!
//! One pair of parsers for the command line, the configuration and the filter language.

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;

/// A number of bytes. `k`, `M`, `G` are powers of 1024, as in `--max-message 1M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A span of time. Printed in the largest unit that keeps it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Why a text is no size or no span of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// No number of bytes.
    #[error("{0:?} is no size; write a number of bytes, or one with k, M or G (1k = 1024)")]
    Bytes(String),
    /// No span of time.
    #[error(
        "{0:?} is no span of time; write a number with us, ms, s, m, h or d, for example 250ms"
    )]
    Span(String),
}

const BYTE_UNITS: [(&str, u64); 4] = [("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10), ("", 1)];

const SPAN_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A whole number followed by letters.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

impl FromStr for Bytes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let parsed = number_and_unit(text).and_then(|(number, unit)| {
            let unit = unit
                .strip_suffix("iB")
                .or_else(|| unit.strip_suffix('B'))
                .unwrap_or(unit);
            let unit = if unit == "K" { "k" } else { unit };
            let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*factor)
        });
        parsed
            .map(Self)
            .ok_or_else(|| SizeError::Bytes(text.to_owned()))
    }
}

impl FromStr for Span {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let parsed = number_and_unit(text).and_then(|(number, unit)| {
            let unit = if unit == "µs" { "us" } else { unit };
            let (_, factor) = SPAN_UNITS.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*factor)
        });
        parsed
            .map(|ns| Self(Duration::from_nanos(ns)))
            .ok_or_else(|| SizeError::Span(text.to_owned()))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            |&&(_, factor): &&(&str, u64)| self.0.is_multiple_of(factor) && self.0 >= factor;
        let (unit, factor) = BYTE_UNITS.iter().find(whole).unwrap_or(&("", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let whole =
            |&&(_, factor): &&(&str, u64)| ns.is_multiple_of(factor.into()) && ns >= factor.into();
        let (unit, factor) = SPAN_UNITS.iter().find(whole).unwrap_or(&("s", 1));
        write!(f, "{}{unit}", ns / u128::from(*factor))
    }
}

/// `count` of bytes for people: `999 B`, `1.9 KiB`, `2.0 GiB`.
pub fn for_people(count: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| count >= *factor) {
        Some((unit, factor)) => format!("{:.1} {unit}", count as f64 / *factor as f64),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_type() {
        assert_eq!("1M".parse(), Ok(Bytes(1 << 20)));
        assert_eq!("64KiB".parse(), Ok(Bytes(65_536)));
        assert_eq!("17".parse(), Ok(Bytes(17)));
        assert_eq!("10m".parse(), Ok(Span(Duration::from_mins(10))));
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert!(
            "5".parse::<Span>().is_err(),
            "a span without a unit is a guess"
        );
        assert!("99999999999999G".parse::<Bytes>().is_err());
        assert!("-1".parse::<Bytes>().is_err());
    }

    proptest! {
        #[test]
        fn parse_and_print_are_inverse(n in any::<u64>()) {
            prop_assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
            let span = Span(Duration::from_nanos(n));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
