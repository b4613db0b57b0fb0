//! Wall-clock times in the system's time zone (`TZ`, else `/etc/localtime`).

use echoic_core::event::Micros;
use echoic_recorder::wall_clock_now;
use jiff::{Timestamp, Zoned, civil::Date, tz::TimeZone};
use serde::{Serialize, Serializer};

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
    #[serde(serialize_with = "rfc3339")]
    time: Micros,
}

impl<T> WithTime<T> {
    pub(crate) fn new(object: T, time: Micros) -> Self {
        Self { object, time }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn rfc3339<S: Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*at, "%Y-%m-%dT%H:%M:%S%.6f%:z"))
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
