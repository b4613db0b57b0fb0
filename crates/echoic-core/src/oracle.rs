//! What the property tests and the fuzzers hold against whatever is typed.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use crate::{
    endpoint::{Endpoint, Located, Served},
    event::Place,
    framing::{Frames, Framing},
    guests::Network,
    size::{Bytes, Span},
    store::Durability,
};

/// Any text is, of each kind there is on a command line, a value that prints as itself, or an error that can be shown as
/// it is.
///
/// # Panics
/// When it is neither.
pub fn check_typed(text: &str) {
    check::<Endpoint>(text);
    check::<Located>(text);
    check::<Framing>(text);
    check::<Frames>(text);
    check::<Network>(text);
    check::<Bytes>(text);
    check::<Span>(text);
    check::<Durability>(text);
    check::<Place>(text);
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

fn check<T>(text: &str)
where
    T: FromStr<Err: Display + Debug> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            match printed.parse::<T>() {
                Ok(again) => assert_eq!(again, value, "{text:?} prints as {printed:?}"),
                Err(error) => panic!("{text:?} prints as {printed:?}, which is none: {error}"),
            }
        }
        Err(error) => check_error(text, &error),
    }
}

fn check_error(text: &str, error: &impl Display) {
    let shown = error.to_string();
    assert!(
        !shown.contains(char::is_control),
        "of {text:?} it says {shown:?}"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::check_typed;

    proptest! {
        #[test]
        fn whatever_is_typed_is_itself_or_an_error(
            text in r"(upper=|greet:[a-z=]{0,3}=|)(tcp://|udp://|unix:|unixgram:|fd:|)[0-9a-z:.\[\]*/@%-]{0,12}(\?(frame|idle|allow|as)=[a-z0-9:/%.]{0,8}(&[a-z-]{0,9}=[^ ]{0,4})?)?"
        ) {
            check_typed(&text);
        }

        #[test]
        fn numbers_with_units_and_networks(text in r"[0-9]{0,21}(\.[0-9]{1,3}){0,3}[a-zA-Z/:]{0,3}[0-9]{0,3}") {
            check_typed(&text);
        }

        #[test]
        fn anything(text: String) {
            check_typed(&text);
        }
    }
}
