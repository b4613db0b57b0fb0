//! Wall-clock times in the system's time zone (`TZ`, else `/etc/localtime`).

use echoic_core::event::Micros;
use echoic_recorder::wall_clock_now;
use jiff::{Timestamp, Zoned, civil::Date, tz::TimeZone};
use serde::Serialize;

const SECOND_US: i64 = 1_000_000;

/// Returns the current time.
pub(crate) fn now() -> Zoned {
    local(wall_clock_now()).unwrap_or_default()
}

/// `13:55:07.113`, or `2026-11-28 13:55:07.113` if the day is not `today`.
///
/// Both forms are times of the filter language. They are cut to milliseconds, not rounded, so that `since:` a time that is
/// listed finds what was listed.
pub(crate) fn short(at: Micros, today: Date) -> String {
    if is_on(at, today) {
        format(at, "%H:%M:%S%.3f")
    } else {
        format(at, "%Y-%m-%d %H:%M:%S%.3f")
    }
}

/// Whether `at` is within the day `today`.
pub(crate) fn is_on(at: Micros, today: Date) -> bool {
    local(at).is_some_and(|at| at.date() == today)
}

/// `2026-11-28 13:55:07.113482+05:30`
pub(crate) fn full(at: Micros) -> String {
    format(at, "%Y-%m-%d %H:%M:%S%.6f%:z")
}

/// An object of JSON with a time in microseconds, and the same time in the form of RFC 3339 as the key `time`.
#[derive(Debug, Serialize)]
pub(crate) struct WithTime<T> {
    #[serde(flatten)]
    object: T,
    time: String,
}

impl<T> WithTime<T> {
    pub(crate) fn new(object: T, at: Micros, format: &mut Rfc3339) -> Self {
        let mut time = Vec::new();
        format.push(&mut time, at);
        let time = String::from_utf8_lossy(&time).into_owned();
        Self { object, time }
    }
}

/// Formats times like `2026-11-28T13:55:07.113482+05:30`. Most times are within the second of the one before, which then costs
/// a copy: `serve --json` formats one for each exchange.
#[derive(Debug, Default)]
pub(crate) struct Rfc3339 {
    /// The second that is formatted, since 1970.
    second: Option<i64>,
    date_and_time: String,
    offset: String,
}

impl Rfc3339 {
    /// Appends a time.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, at: Micros) {
        let (second, micros) = (at.div_euclid(SECOND_US), at.rem_euclid(SECOND_US));
        if self.second != Some(second) {
            let begin = second.saturating_mul(SECOND_US);
            self.date_and_time = format(begin, "%Y-%m-%dT%H:%M:%S");
            self.offset = format(begin, "%:z");
            self.second = Some(second);
        }
        out.extend_from_slice(self.date_and_time.as_bytes());
        out.push(b'.');
        for unit in [100_000, 10_000, 1_000, 100, 10, 1] {
            out.push(b'0' + u8::try_from(micros / unit % 10).unwrap_or(0));
        }
        out.extend_from_slice(self.offset.as_bytes());
    }
}

fn format(at: Micros, format: &str) -> String {
    match local(at) {
        Some(at) => at.strftime(format).to_string(),
        None => at.to_string(),
    }
}

/// `None` beyond the years that can be written.
fn local(at: Micros) -> Option<Zoned> {
    let at = Timestamp::from_microsecond(at).ok()?;
    Some(at.to_zoned(TimeZone::system()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_second_formats_like_each_alone() {
        let mut cached = Rfc3339::default();
        for at in [
            0,
            1,
            999_999,
            1_000_000,
            999_999,
            -1,
            -1_000_001,
            1_772_908_147_113_009,
        ] {
            let mut text = Vec::new();
            cached.push(&mut text, at);
            assert_eq!(
                String::from_utf8(text).unwrap(),
                format(at, "%Y-%m-%dT%H:%M:%S%.6f%:z")
            );
        }
    }
}
