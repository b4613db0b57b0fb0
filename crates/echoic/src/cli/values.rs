//! Parsers for option values with bounds.

use std::{ops::RangeInclusive, str::FromStr};

use echoic_core::units::{Bytes, Count, OffOr, UnitError, quoted};

/// Returns a parser for a count within `bounds`, which must fit `T`.
pub(crate) fn count<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, UnitError> + Clone {
    move |text| Count::within(text, bounds.clone()).map(fit)
}

/// Returns a parser for a size in bytes within `bounds`, which must fit `T`.
pub(super) fn size<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, UnitError> + Clone {
    move |text| Bytes::within(text, bounds.clone()).map(fit)
}

/// Parses `--max-message`: 1 byte to 1 GiB.
pub(crate) fn max_message(text: &str) -> Result<usize, UnitError> {
    const MESSAGE_BYTES_MAX: u64 = 1 << 30;
    size(1..=MESSAGE_BYTES_MAX)(text)
}

/// Returns a parser for `off` or a value that `read` parses.
pub(super) fn off_or<T>(
    read: impl Fn(&str) -> Result<T, UnitError> + Clone,
) -> impl Fn(&str) -> Result<OffOr<T>, UnitError> + Clone {
    move |text| OffOr::read(text, &read)
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switch(pub(crate) bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self(true)),
            "off" => Ok(Self(false)),
            _ => Err(format!(
                "invalid switch {}: expected on or off",
                quoted(text)
            )),
        }
    }
}

/// Added to errors about the options of a Unix endpoint.
pub(crate) const ENCODING_HINT: &str = "; in the path of a Unix socket, write %3F for ?";

fn fit<T: TryFrom<u64>>(number: u64) -> T {
    let Ok(number) = T::try_from(number) else {
        unreachable!("the bounds fit the type");
    };
    number
}
