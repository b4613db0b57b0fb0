//! Numbers, sizes and durations in a filter, single or as ranges.

use std::{fmt, ops::RangeInclusive, time::Duration};

use super::ranges::Ranges;
use crate::units::{Bytes, Count, Span};

/// The unit of a number, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A count: `17`.
    Count,
    /// An id, which lists show as `#17` or `c17`.
    Name,
    /// Bytes: `1k`.
    Bytes,
    /// Nanoseconds: `5ms`.
    Time,
}

/// The units, in nanoseconds, in which a single duration is printed that covers one whole unit: `82us` is 81,500 to
/// 82,499 ns, because a list prints all of these as 82us.
const GRAINS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

impl Unit {
    /// Parses `n`, `n..m`, `n..`, `..m`, `>n`, `>=n`, `<n` or `<=n`. The range may be empty.
    pub(super) fn range(self, text: &str) -> Option<RangeInclusive<u64>> {
        #[expect(
            clippy::reversed_empty_ranges,
            reason = "the range is meant to be empty"
        )]
        const EMPTY: RangeInclusive<u64> = 1..=0;
        if let Some(least) = text.strip_prefix(">=") {
            return Some(self.number(least)?..=u64::MAX);
        }
        if let Some(below) = text.strip_prefix('>') {
            let least = self.number(below)?.checked_add(1);
            return Some(least.map_or(EMPTY, |least| least..=u64::MAX));
        }
        if let Some(most) = text.strip_prefix("<=") {
            return Some(0..=self.number(most)?);
        }
        if let Some(above) = text.strip_prefix('<') {
            let most = self.number(above)?.checked_sub(1);
            return Some(most.map_or(EMPTY, |most| 0..=most));
        }
        match text.split_once("..") {
            None => self.single(text),
            Some(("", "")) => None,
            Some((least, "")) => Some(self.number(least)?..=u64::MAX),
            Some(("", most)) => Some(0..=self.number(most)?),
            Some((least, most)) => Some(self.number(least)?..=self.number(most)?),
        }
    }

    fn single(self, text: &str) -> Option<RangeInclusive<u64>> {
        if self == Self::Time {
            let (span, step) = Span::with_step(text).ok()?;
            let least = u64::try_from(span.0.as_nanos()).ok()?;
            return Some(least.saturating_sub(step / 2)..=least.saturating_add((step - 1) / 2));
        }
        let number = self.number(text)?;
        Some(number..=number)
    }

    fn number(self, text: &str) -> Option<u64> {
        match self {
            Self::Bytes => text.parse::<Bytes>().ok().map(|bytes| bytes.0),
            Self::Time => {
                let span = text.parse::<Span>().ok()?;
                u64::try_from(span.0.as_nanos()).ok()
            }
            Self::Name => Self::Count.number(text.strip_prefix(['#', 'c']).unwrap_or(text)),
            Self::Count => text.parse::<Count>().ok().map(|count| count.0),
        }
    }

    /// Writes ranges so that [`Unit::range`] parses the same ones.
    pub(super) fn write(self, f: &mut fmt::Formatter<'_>, ranges: &Ranges) -> fmt::Result {
        for (i, range) in ranges.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(&self.format_range(range.into_inner()))?;
        }
        Ok(())
    }

    fn format_range(self, (least, most): (u64, u64)) -> String {
        let number = |number: u64| match self {
            Self::Count | Self::Name => number.to_string(),
            Self::Bytes => Bytes(number).to_string(),
            Self::Time => Span(Duration::from_nanos(number)).to_string(),
        };
        let shorter = |a: String, b: String| if a.len() <= b.len() { a } else { b };
        let grain = GRAINS.iter().find(|(_, grain)| {
            let middle = least.saturating_add(*grain / 2);
            self == Self::Time && middle.is_multiple_of(*grain) && most - least == grain - 1
        });
        match (least, most, grain) {
            (_, _, Some((unit, grain))) => format!("{}{unit}", (least + grain / 2) / grain),
            (0, u64::MAX, _) => format!(">={}", number(0)),
            (_, u64::MAX, _) => shorter(
                format!(">{}", number(least - 1)),
                format!(">={}", number(least)),
            ),
            (0, _, _) if most > 0 => shorter(
                format!("<{}", number(most + 1)),
                format!("<={}", number(most)),
            ),
            _ if self == Self::Time && least == most => format!("{least}ns"),
            _ if least == most => number(least),
            _ => format!("{}..{}", number(least), number(most)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Unit::Time, "5ms", 4_500_000..=5_499_999)]
    #[case(Unit::Time, "82µs", 81_500..=82_499)]
    #[case(Unit::Time, "7ns", 7..=7)]
    #[case(Unit::Time, "0.5ms", 450_000..=549_999)]
    #[case(Unit::Time, "1m30s", 89_500_000_000..=90_499_999_999)]
    #[case(Unit::Time, "5", 4_500_000_000..=5_499_999_999)]
    #[case(Unit::Time, "0.5..1.5", 500_000_000..=1_500_000_000)]
    #[case(Unit::Bytes, "1.5k", 1536..=1536)]
    #[case(Unit::Count, ">1k", 1001..=u64::MAX)]
    #[case(Unit::Time, ">5ms", 5_000_001..=u64::MAX)]
    #[case(Unit::Time, "1ms..5ms", 1_000_000..=5_000_000)]
    #[case(Unit::Bytes, ">=1k", 1024..=u64::MAX)]
    #[case(Unit::Bytes, "<1M", 0..=1_048_575)]
    #[case(Unit::Bytes, "1k", 1024..=1024)]
    #[case(Unit::Count, "..7", 0..=7)]
    #[case(Unit::Count, "7..", 7..=u64::MAX)]
    #[case(Unit::Name, "#40871", 40871..=40871)]
    #[case(Unit::Name, "c3..c5", 3..=5)]
    fn number_parses_to_a_range(
        #[case] unit: Unit,
        #[case] text: &str,
        #[case] range: RangeInclusive<u64>,
    ) {
        assert_eq!(unit.range(text), Some(range));
    }

    #[rstest]
    #[case(Unit::Count, "5..3")]
    #[case(Unit::Count, "<0")]
    #[case(Unit::Count, ">18446744073709551615")]
    fn empty_range_matches_nothing(#[case] unit: Unit, #[case] text: &str) {
        assert!(unit.range(text).unwrap().is_empty());
    }

    #[rstest]
    #[case(Unit::Time, "-5ms")]
    #[case(Unit::Time, "ms")]
    #[case(Unit::Count, "+5")]
    #[case(Unit::Count, "..")]
    #[case(Unit::Count, "")]
    #[case(Unit::Count, "18446744073709551616")]
    #[case(Unit::Count, "#5")]
    #[case(Unit::Bytes, "1.5")]
    fn invalid_number_is_rejected(#[case] unit: Unit, #[case] text: &str) {
        assert_eq!(unit.range(text), None);
    }

    proptest! {
        #[test]
        fn printed_ranges_parse_back(
            least in prop_oneof![any::<u64>(), 0..5000_u64, (0..90_u64).prop_map(|n| n * 1_000_000)],
            length in prop_oneof![any::<u64>(), Just(u64::MAX), 0..3_u64, Just(999), Just(999_999)],
        ) {
            let range = least..=least.saturating_add(length);
            for unit in [Unit::Count, Unit::Name, Unit::Bytes, Unit::Time] {
                let printed = unit.format_range(range.clone().into_inner());
                prop_assert_eq!(unit.range(&printed), Some(range.clone()), "{}", printed);
            }
        }
    }
}
