//! Parsers for option values with bounds.

use std::ops::RangeInclusive;

use echoic_core::units::{Bytes, Count, OffOr, UnitError};

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

fn fit<T: TryFrom<u64>>(number: u64) -> T {
    let Ok(number) = T::try_from(number) else {
        unreachable!("the bounds fit the type");
    };
    number
}
