//! Invariants of everything that is parsed from the command line, checked by the property tests and the fuzzers.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use crate::{
    access::Network,
    endpoint::{Endpoint, Located, Served},
    event::Address,
    framing::{Framing, FramingPair},
    store::Durability,
    units::{Bytes, Count, Hex, Mode, OffOr, Rate, Span},
};

/// Checks that each type of the command line parses any text to a value that prints and parses back, or to an error
/// that is safe to print.
///
/// # Panics
/// If one does neither.
pub fn check_typed(text: &str) {
    check::<Endpoint>(text);
    check::<Located>(text);
    check::<Framing>(text);
    check::<FramingPair>(text);
    check::<Network>(text);
    check::<Bytes>(text);
    check::<Span>(text);
    check::<Count>(text);
    check::<Rate>(text);
    check::<Hex>(text);
    check::<Mode>(text);
    check::<OffOr<Span>>(text);
    check_amounts(text);
    check::<Durability>(text);
    check::<Address>(text);
    match text.parse::<Served>() {
        Ok(Served { service, located }) => {
            let printed = match &service {
                Some(service) => format!("{service}={located}"),
                None => located.to_string(),
            };
            assert_eq!(printed.parse(), Ok(Served { service, located }), "{text:?}");
        }
        Err(error) => check_error(text, &error),
    }
}

/// Checks that an amount with one unit agrees with floating-point arithmetic, within its precision.
fn check_amounts(text: &str) {
    let assert_close = |parsed: u64, expected: f64| {
        let expected = expected.round();
        let difference = (parsed as f64 - expected).abs();
        assert!(
            difference <= 1.0 + expected * 1e-12,
            "{text:?} is {parsed}, not {expected}"
        );
    };
    let numeric = |unit: &str| -> Option<f64> {
        let number = text.strip_suffix(unit)?;
        let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        number.parse().ok().filter(|_| is_plain)
    };
    for (unit, factor) in [("k", 1024.0), ("MiB", 1_048_576.0), ("gb", 1_073_741_824.0)] {
        if let (Some(number), Ok(Bytes(bytes))) = (numeric(unit), text.parse()) {
            assert_close(bytes, number * factor);
        }
    }
    for (unit, factor) in [("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)] {
        if let (Some(number), Ok(Count(count))) = (numeric(unit), text.parse()) {
            assert_close(count, number * factor);
        }
    }
    for (unit, factor) in [
        ("", 1e9),
        ("us", 1e3),
        ("ms", 1e6),
        ("min", 6e10),
        ("h", 3.6e12),
        ("w", 6.048e14),
    ] {
        if let (Some(number), Ok(Span(span))) = (numeric(unit), text.parse()) {
            let ns = u64::try_from(span.as_nanos()).expect("invariant: at most 584 years");
            assert_close(ns, number * factor);
        }
    }
}

fn check<T>(text: &str)
where
    T: FromStr<Err: Display + Debug> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            match printed.parse::<T>() {
                Ok(again) => assert_eq!(again, value, "{text:?} prints as {printed:?}"),
                Err(error) => panic!("{text:?} prints as {printed:?}, which is invalid: {error}"),
            }
        }
        Err(error) => check_error(text, &error),
    }
}

fn check_error(text: &str, error: &impl Display) {
    let message = error.to_string();
    assert!(
        !message.contains(char::is_control),
        "the error for {text:?} is {message:?}"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::check_typed;

    proptest! {
        #[test]
        fn any_input_parses_to_itself_or_an_error(
            text in r"(upper=|greet:[a-z=]{0,3}=|)(tcp://|udp://|unix:|unixgram:|fd:|)[0-9a-z:.\[\]*/@%-]{0,12}(\?(frame|idle|allow|as)=[a-z0-9:/%.]{0,8}(&[a-z-]{0,9}=[^ ]{0,4})?)?"
        ) {
            check_typed(&text);
        }

        #[test]
        fn numbers_with_units_and_networks_parse_to_themselves(text in r"[0-9]{0,21}(\.[0-9]{1,3}){0,3}[a-zA-Z/:]{0,3}[0-9]{0,3}") {
            check_typed(&text);
        }

        #[test]
        fn amounts_are_what_arithmetic_says(
            text in r"[0-9]{0,6}(\.[0-9]{1,9})?(|k|M|G|MiB|gb|us|ms|min|h|w|%|/s|h[0-9]{1,2}m)"
        ) {
            check_typed(&text);
        }

        #[test]
        fn bytes_and_words(text in r"(0x|delim:|fixed:|OFF|off|)([0-9a-fA-F]{2}[:, ]?){0,4}") {
            check_typed(&text);
        }

        #[test]
        fn arbitrary_text_parses_to_itself_or_an_error(text: String) {
            check_typed(&text);
        }
    }
}
