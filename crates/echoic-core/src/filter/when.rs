//! Points in time, as typed in a filter.

use std::{fmt, time::Duration};

use jiff::{
    Timestamp, ToSpan, Zoned,
    civil::{Date, DateTime, Time},
};

use super::expr::When;
use crate::units::Span;

/// Why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotATime {
    /// It has no meaning.
    Invalid,
    /// It is relative to the current day, which is not known.
    NeedsToday,
}

impl When {
    /// Parses a time, or a duration: `10m` is ten minutes ago.
    ///
    /// A time without a zone is a time in the zone of `now`, and `13:55`, `today` and `yesterday` count from its day. Without
    /// `now`, a time without a zone is in UTC. Where a clock is set forward, a time that it skips is read as if the clock had
    /// not been set yet; where it is set back, a time that it shows twice is the first of the two. (RFC 5545, section 3.3.5.)
    pub(super) fn parse(text: &str, now: Option<&Zoned>) -> Result<Self, NotATime> {
        // A zone in brackets comes first: the other parsers ignore it.
        if let Ok(at) = text.parse::<Zoned>() {
            return Ok(Self::At(at.timestamp().as_microsecond()));
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at.as_microsecond()));
        }
        match local(text, now.map(Zoned::date)) {
            Err(NotATime::Invalid) => {
                let span = text.parse::<Span>().ok();
                let ago = span.and_then(|span| u64::try_from(span.0.as_micros()).ok());
                ago.map(Self::Ago).ok_or(NotATime::Invalid)
            }
            Err(needs_today) => Err(needs_today),
            Ok(local) => {
                let zone = now.map_or(jiff::tz::TimeZone::UTC, |now| now.time_zone().clone());
                let at = local.to_zoned(zone).map_err(|_| NotATime::Invalid)?;
                Ok(Self::At(at.timestamp().as_microsecond()))
            }
        }
    }
}

/// Parses a date, a time of day, or both with a space or a `T` between them.
fn local(text: &str, today: Option<Date>) -> Result<DateTime, NotATime> {
    // The parsers of jiff ignore an offset or a zone that follows.
    if text.contains(['+', '[', 'Z', 'z']) {
        return Err(NotATime::Invalid);
    }
    if let Some(time) = time_of_day(text) {
        return Ok(today.ok_or(NotATime::NeedsToday)?.to_datetime(time));
    }
    let (day, time) = match text.split_once([' ', 'T']) {
        Some((day, time)) => (day, time_of_day(time).ok_or(NotATime::Invalid)?),
        None => (text, Time::midnight()),
    };
    Ok(date(day, today)?.to_datetime(time))
}

/// `2026-08-01`, `20260801`, `today` or `yesterday`.
fn date(text: &str, today: Option<Date>) -> Result<Date, NotATime> {
    let is_plain = |c: char| c.is_ascii_digit() || c == '-';
    let ago = match &*text.to_ascii_lowercase() {
        "today" => 0,
        "yesterday" => 1,
        // jiff ignores a time that follows, and reads a year alone as a date.
        _ if text.len() < 8 || !text.chars().all(is_plain) => return Err(NotATime::Invalid),
        _ => return text.parse().map_err(|_| NotATime::Invalid),
    };
    let today = today.ok_or(NotATime::NeedsToday)?;
    today.checked_sub(ago.days()).map_err(|_| NotATime::Invalid)
}

/// `13:55`, `9:05` or `13:55:07.113`; digits alone are a duration.
fn time_of_day(text: &str) -> Option<Time> {
    let (hour, rest) = text.split_once(':')?;
    let is_plain = |c: char| c.is_ascii_digit() || matches!(c, ':' | '.');
    if !(1..=2).contains(&hour.len()) || !text.chars().all(is_plain) || rest.len() < 2 {
        return None;
    }
    format!("{hour:0>2}:{rest}").parse().ok()
}

/// Whether `text` is a date alone, which a time of day may follow after a space.
pub(super) fn is_date(text: &str) -> bool {
    date(text, Some(Date::MAX)).is_ok()
}

/// Whether `text` can follow a date after a space.
pub(super) fn is_time_of_day(text: &str) -> bool {
    let end = text.find(['+', '-', 'Z', 'z', '[']).unwrap_or(text.len());
    time_of_day(&text[..end]).is_some()
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ago(us) => write!(f, "{}", Span(Duration::from_micros(us))),
            Self::At(us) => match Timestamp::from_microsecond(us) {
                Ok(at) => write!(f, "{at}"),
                Err(_) if us < 0 => write!(f, "{}", Timestamp::MIN),
                Err(_) => write!(f, "{}", Timestamp::MAX),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::{self, TimeZone};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// Half past one in the night of 29 November 2026, five and a half hours east of UTC.
    fn now() -> Zoned {
        let zone = TimeZone::fixed(tz::offset(5).saturating_add(30.minutes()));
        zone_at(zone, "2026-11-29T01:30")
    }

    fn zone_at(zone: TimeZone, local: &str) -> Zoned {
        local.parse::<DateTime>().unwrap().to_zoned(zone).unwrap()
    }

    fn utc(text: &str) -> Result<When, NotATime> {
        Ok(When::At(
            text.parse::<Timestamp>().unwrap().as_microsecond(),
        ))
    }

    #[rstest]
    #[case("10m", When::Ago(600_000_000))]
    #[case("1.5h", When::Ago(5_400_000_000))]
    #[case("10", When::Ago(10_000_000))]
    #[case("1355", When::Ago(1_355_000_000))]
    #[case("20261129", When::At(1_795_910_400_000_000))]
    #[case("1970-01-02", When::At(86_400_000_000))]
    #[case("1970-01-01T00:01", When::At(60_000_000))]
    #[case("1970-01-01 00:00:01.5", When::At(1_500_000))]
    #[case("1970-01-01T02:00:00+02:00", When::At(0))]
    #[case("1970-01-01 02:00:00+02:00", When::At(0))]
    #[case("1970-01-01T02:00[+02:00]", When::At(0))]
    #[case("2026-11-22T12:04:06.998113Z", When::At(1_795_349_046_998_113))]
    fn time_parses_as_absolute_or_relative(#[case] text: &str, #[case] when: When) {
        assert_eq!(When::parse(text, None), Ok(when));
    }

    #[rstest]
    #[case("2026-11-28T23:59", "2026-11-28T18:29:00Z")]
    #[case("2026-11-28 23:59:07.113", "2026-11-28T18:29:07.113Z")]
    #[case("2026-11-28", "2026-11-27T18:30:00Z")]
    #[case("20261128", "2026-11-27T18:30:00Z")]
    #[case("today", "2026-11-28T18:30:00Z")]
    #[case("Yesterday", "2026-11-27T18:30:00Z")]
    #[case("yesterday 9:05", "2026-11-28T03:35:00Z")]
    #[case("0:07", "2026-11-28T18:37:00Z")]
    #[case("13:55", "2026-11-29T08:25:00Z")]
    #[case("13:55:07.113", "2026-11-29T08:25:07.113Z")]
    #[case("2026-11-28T23:59Z", "2026-11-28T23:59:00Z")]
    #[case("2026-11-28 23:59-01:00", "2026-11-29T00:59:00Z")]
    fn time_without_a_zone_is_local(#[case] text: &str, #[case] at: &str) {
        assert_eq!(When::parse(text, Some(&now())), utc(at), "{text}");
    }

    /// Central Europe: at 2:00 on 29 March the clock is set to 3:00, and at 3:00 on 25 October back to 2:00.
    #[rstest]
    #[case::before("2026-03-29 01:59", "2026-03-29T00:59:00Z")]
    #[case::skipped("2026-03-29 02:30", "2026-03-29T01:30:00Z")]
    #[case::after("2026-03-29 03:00", "2026-03-29T01:00:00Z")]
    #[case::shown_twice("2026-10-25 02:30", "2026-10-25T00:30:00Z")]
    #[case::second_of_the_two("2026-10-25 02:30+01:00", "2026-10-25T01:30:00Z")]
    #[case::day_of_25_hours("2026-10-26", "2026-10-25T23:00:00Z")]
    #[case::today_of_23_hours("today", "2026-03-28T23:00:00Z")]
    fn clock_change_reads_a_time_by_rfc_5545(#[case] text: &str, #[case] at: &str) {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now = zone_at(zone, "2026-03-29T12:00");
        assert_eq!(When::parse(text, Some(&now)), utc(at), "{text}");
    }

    #[rstest]
    fn invalid_time_is_rejected(
        #[values(
            "",
            "-10",
            "25:00",
            "12:60",
            "13:5",
            "2026-13-01",
            "2026-02-30",
            "tomorrow",
            "today 25:00",
            "13:55Z",
            "13:55+05:30",
            "2026-08-01+02:00",
            "2026-08-01Z",
            "2026-08-01[UTC]x",
            "2026-08",
            "todayT",
            "12:04 PM"
        )]
        text: &str,
    ) {
        for now in [None, Some(&now())] {
            assert_eq!(When::parse(text, now), Err(NotATime::Invalid), "{text}");
        }
    }

    #[rstest]
    fn relative_day_needs_the_current_one(
        #[values("today", "yesterday 13:55", "12:04")] text: &str,
    ) {
        assert_eq!(When::parse(text, None), Err(NotATime::NeedsToday));
    }

    proptest! {
        #[test]
        fn printed_times_parse_back(
            at in Timestamp::MIN.as_microsecond()..=Timestamp::MAX.as_microsecond(),
            ago in 0..u64::MAX / 1000,
        ) {
            for when in [When::At(at), When::Ago(ago)] {
                for now in [None, Some(&now())] {
                    prop_assert_eq!(When::parse(&when.to_string(), now), Ok(when));
                }
            }
        }

        #[test]
        fn any_text_parses_or_is_rejected(text in r"[0-9T:+\-. Z\[\]a-z]{0,24}") {
            let _ = When::parse(&text, Some(&now()));
        }
    }
}
