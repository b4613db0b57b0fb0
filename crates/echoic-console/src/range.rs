//! Ranges of bytes (RFC 9110, 14).

use axum::http::{HeaderMap, header};

/// The bytes that a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All.
    All,
    /// From the first to before the second.
    Part(u64, u64),
    /// None that are there.
    Beyond,
}

/// Returns the bytes that a request wants of `total`. A header that is no single range is ignored, as a server may.
pub(crate) fn wanted(headers: &HeaderMap, total: u64) -> Wanted {
    let range = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    range
        .and_then(|range| parse(range, total))
        .unwrap_or(Wanted::All)
}

fn parse(range: &str, total: u64) -> Option<Wanted> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (start, end) = match (first, last) {
        ("", last) => (total.saturating_sub(number(last)?), total),
        (first, "") => (number(first)?, total),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(total))
        }
    };
    Some(if start < end {
        Wanted::Part(start, end)
    } else {
        Wanted::Beyond
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_cut_to_what_is_there() {
        for (range, expected) in [
            ("bytes=0-0", Some(Wanted::Part(0, 1))),
            ("bytes=2-", Some(Wanted::Part(2, 10))),
            ("bytes=-3", Some(Wanted::Part(7, 10))),
            ("bytes=-30", Some(Wanted::Part(0, 10))),
            ("bytes=5-99", Some(Wanted::Part(5, 10))),
            ("bytes=10-", Some(Wanted::Beyond)),
            ("bytes=-0", Some(Wanted::Beyond)),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-b", None),
            ("bytes=-", None),
            ("lines=0-1", None),
            ("bytes=0-18446744073709551615", Some(Wanted::Part(0, 10))),
        ] {
            assert_eq!(parse(range, 10), expected, "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Some(Wanted::Beyond));
    }
}
