//! Amounts with units, as typed on the command line, in `?options` of endpoints and in filters.
//!
//! | Type | Examples | Rule |
//! |---|---|---|
//! | [`Span`] | `250ms` `0.5s` `10min` `1m30s` `1w` `5` | a plain number is seconds |
//! | [`Bytes`] | `64` `64KB` `1KiB` `1.5M` | k, M, G and T are powers of 1024 |
//! | [`Count`] | `7` `10k` `1.5M` | k, M and G are powers of 1000 |
//! | [`Rate`] | `0.5` `20k` `20k/s` | like a count, but may be a fraction |
//! | [`Percent`] | `5%` `0.1%` | from 0% to 100% |
//! | [`Hex`] | `0d0a` `0x0d0a` `0d:0a` `0D 0A` | pairs of digits |
//! | [`Mode`] | `660` | octal |
//! | [`OffOr`] | `off` `10m` | for limits that can be switched off |
//!
//! Words and units may be written in any case, except that `M` is not a unit of time: in `--retention 7M` it is a size.
//! Every printed value parses to the same value.

mod decimal;
mod error;
mod hex;
mod span;

use std::{fmt, ops::RangeInclusive, str::FromStr};

use self::{decimal::Decimal, error::Why};

pub(crate) use self::hex::masked;
pub use self::{
    decimal::decimal,
    error::{UnitError, quoted},
    hex::Hex,
    span::Span,
};

/// A number of bytes. `k`, `M`, `G` and `T` are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A count. `k`, `M` and `G` are powers of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(pub u64);

/// A rate in events per second, from 0.001 to 100 million.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

/// A fraction from 0 to 1, written in percent.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

/// Permissions of a file, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode(pub u32);

/// A value, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffOr<T>(pub Option<T>);

const BYTES: &str = "a number of bytes, optionally with k, M, G or T (1k is 1024)";
const COUNT: &str = "a number, optionally with k, M or G (1k is 1000)";
const RATE: &str =
    "a number a second from 0.001 to 100M, for example 500, 20k or 1.5M (1k is 1000)";
const PERCENT: &str = "a percentage from 0% to 100%, for example 5%";
const MODE: &str = "octal permissions from 0 to 777, for example 660";

fn byte_unit(unit: &str) -> Option<u64> {
    Some(match &*unit.to_ascii_lowercase() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    })
}

fn count_unit(unit: &str) -> Option<u64> {
    Some(match &*unit.to_ascii_lowercase() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        _ => return None,
    })
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parse = || {
            let (number, unit) = Decimal::split(text).ok_or(Why::Expected(BYTES))?;
            let factor = byte_unit(unit).ok_or_else(|| Why::unit(unit, "k, M, G or T"))?;
            number.times(factor, "byte").map(Self)
        };
        parse().map_err(|why| UnitError::new("size", text, why))
    }
}

impl FromStr for Count {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parse = || match Decimal::split(text) {
            Some((number, unit)) => {
                let factor = count_unit(unit).ok_or(Why::Expected(COUNT))?;
                number.times_exactly(factor).map(Self)
            }
            None => Err(Why::Expected(COUNT)),
        };
        parse().map_err(|why| UnitError::new("count", text, why))
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parse = || {
            let text = text.strip_suffix("/s").unwrap_or(text);
            let end = text.len() - usize::from(text.ends_with(|c: char| c.is_ascii_alphabetic()));
            let (number, unit) = text.split_at(end);
            let rate = decimal(number)? * count_unit(unit)? as f64;
            (0.001..=1e8).contains(&rate).then_some(Self(rate))
        };
        parse().ok_or_else(|| UnitError::new("rate", text, Why::Expected(RATE)))
    }
}

impl FromStr for Percent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let number = text
            .strip_suffix('%')
            .and_then(|number| decimal(number.trim_end()));
        number
            .filter(|percent| *percent <= 100.0)
            .map(|percent| Self(percent / 100.0))
            .ok_or_else(|| UnitError::new("share", text, Why::Expected(PERCENT)))
    }
}

impl FromStr for Mode {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let is_octal = digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let mode = u32::from_str_radix(digits, 8)
            .ok()
            .filter(|mode| is_octal && *mode <= 0o777);
        mode.map(Self)
            .ok_or_else(|| UnitError::new("mode", text, Why::Expected(MODE)))
    }
}

impl<T: FromStr<Err = UnitError>> FromStr for OffOr<T> {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::read(text, str::parse)
    }
}

impl<T> OffOr<T> {
    /// Parses `off`, or any other text with `parse`.
    pub fn read(
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, UnitError>,
    ) -> Result<Self, UnitError> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        parse(text)
            .map(|value| Self(Some(value)))
            .map_err(UnitError::or_off)
    }
}

impl Bytes {
    /// Parses a size within bounds, in bytes.
    pub fn within(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, UnitError> {
        let Self(bytes) = text.parse()?;
        let print = |bytes: &u64| Self(*bytes).to_string();
        check_bounds("size", text, bytes, bounds, print)
    }
}

impl Count {
    /// Parses a count within bounds.
    pub fn within(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, UnitError> {
        let Self(count) = text.parse()?;
        check_bounds("count", text, count, bounds, u64::to_string)
    }
}

fn check_bounds(
    what: &'static str,
    text: &str,
    value: u64,
    bounds: RangeInclusive<u64>,
    print: impl Fn(&u64) -> String,
) -> Result<u64, UnitError> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (print(bounds.start()), print(bounds.end()));
    Err(UnitError::new(what, text, Why::Bounds { least, most }))
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            ("T", 1_u64 << 40),
            ("G", 1 << 30),
            ("M", 1 << 20),
            ("k", 1 << 10),
        ];
        let is_whole =
            |(_, factor): &(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (unit, factor) = units.into_iter().find(is_whole).unwrap_or(("", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:o}", self.0)
    }
}

impl<T: fmt::Display> fmt::Display for OffOr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// Formats a count for people: `1 exchange`, `2 exchanges`.
pub fn counted(n: u64, what: &str) -> String {
    let more = if n == 1 { "" } else { "s" };
    format!("{n} {what}{more}")
}

/// Formats a number of bytes for people, rounded: `999 B`, `1.9 KiB`, `2.0 GiB`.
pub fn for_people(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => format!("{:.1} {unit}", bytes as f64 / *factor as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("17", 17)]
    #[case("17B", 17)]
    #[case("1.5M", 3 << 19)]
    #[case("64KB", 64 << 10)]
    #[case("1KiB", 1 << 10)]
    #[case("64kb", 64 << 10)]
    #[case("2G", 2 << 30)]
    #[case(".5t", 1 << 39)]
    #[case("0.1k", 102)]
    fn sizes_parse_with_binary_units(#[case] text: &str, #[case] bytes: u64) {
        assert_eq!(text.parse(), Ok(Bytes(bytes)));
    }

    #[rstest]
    #[case("7", 7)]
    #[case("1k", 1_000)]
    #[case("10K", 10_000)]
    #[case("1.5M", 1_500_000)]
    #[case("2.0", 2)]
    fn counts_parse_with_decimal_units(#[case] text: &str, #[case] count: u64) {
        assert_eq!(text.parse(), Ok(Count(count)));
    }

    #[rstest]
    #[case("500", 500.0)]
    #[case("0.1", 0.1)]
    #[case("20k/s", 20e3)]
    #[case("1.5M", 1.5e6)]
    fn rates_parse_per_second(#[case] text: &str, #[case] rate: f64) {
        assert_eq!(text.parse(), Ok(Rate(rate)));
    }

    #[test]
    fn percentages_modes_and_off_parse() {
        assert_eq!("0.1%".parse(), Ok(Percent(0.001)));
        assert_eq!("0o660".parse(), Ok(Mode(0o660)));
        assert_eq!("OFF".parse::<OffOr<Span>>(), Ok(OffOr(None)));
        let minute = Span(Duration::from_mins(1));
        assert_eq!("1min".parse(), Ok(OffOr(Some(minute))));
    }

    #[rstest]
    #[case::size("1x", "invalid size 1x: unknown unit x; expected k, M, G or T")]
    #[case::size("", "invalid size \"\": expected a number of bytes, ")]
    #[case::size("-1", "invalid size -1: expected a number of bytes, ")]
    #[case::size("1.5", "invalid size 1.5: expected no fraction of a byte")]
    #[case::size("0.0001k", "invalid size 0.0001k: expected no fraction of a byte")]
    #[case::size("99999999999T", "invalid size 99999999999T: the number is too large")]
    #[case::size("NaN", "invalid size NaN: expected")]
    #[case::size("1ib", "invalid size 1ib: unknown unit ib")]
    fn invalid_size_is_rejected_with_a_reason(#[case] text: &str, #[case] message: &str) {
        let error = text.parse::<Bytes>().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }

    #[test]
    fn unit_errors_name_what_is_expected() {
        let of = |error: UnitError| error.to_string();
        assert_eq!(
            of("1x".parse::<Count>().unwrap_err()),
            "invalid count 1x: expected a number, optionally with k, M or G (1k is 1000)"
        );
        assert_eq!(
            of("1.0005k".parse::<Count>().unwrap_err()),
            "invalid count 1.0005k: expected a whole number"
        );
        assert_eq!(
            of(Count::within("0", 1..=100_000).unwrap_err()),
            "invalid count 0: expected at least 1 and at most 100000"
        );
        assert_eq!(
            of(Bytes::within("2G", 1..=1 << 30).unwrap_err()),
            "invalid size 2G: expected at least 1 and at most 1G"
        );
        assert_eq!(
            of("no".parse::<OffOr<Count>>().unwrap_err()),
            "invalid count no: expected a number, optionally with k, M or G (1k is 1000), or off"
        );
    }

    #[rstest]
    fn invalid_rate_is_rejected(
        #[values("", "x", "0", "-1", "nan", "inf", "1e3", "200M", "5kk", "k")] text: &str,
    ) {
        assert!(text.parse::<Rate>().is_err());
    }

    #[rstest]
    fn invalid_percentage_is_rejected(
        #[values("", "5", "%", "101%", "-1%", "nan%", "1e1%")] text: &str,
    ) {
        assert!(text.parse::<Percent>().is_err());
    }

    #[rstest]
    fn invalid_mode_is_rejected(#[values("", "8", "1000", "+7", "-7", "0x7", "rw")] text: &str) {
        assert!(text.parse::<Mode>().is_err());
    }

    proptest! {
        #[test]
        fn parse_and_print_are_inverse(n in any::<u64>(), mode in 0..=0o777_u32, rate in 0.001..1e8) {
            prop_assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
            prop_assert_eq!(Count(n).to_string().parse(), Ok(Count(n)));
            prop_assert_eq!(Mode(mode).to_string().parse(), Ok(Mode(mode)));
            prop_assert_eq!(Rate(rate).to_string().parse(), Ok(Rate(rate)));
            for value in [OffOr(None), OffOr(Some(Count(n)))] {
                prop_assert_eq!(value.to_string().parse(), Ok(value));
            }
        }
    }
}
