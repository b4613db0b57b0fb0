//! A histogram in a word of a JSON file: the V2 form of the HdrHistogram family, in base64.

use base64::prelude::{BASE64_STANDARD, Engine};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2Serializer},
};
use thiserror::Error;

/// A text that is no histogram.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no histogram in the V2 form of HdrHistogram, in base64: {0}")]
pub struct InvalidHistogram(String);

/// Whole, nothing lost.
///
/// # Panics
/// If a count is beyond what 63 bits hold; no run lasts as long.
pub fn packed(of: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(of, &mut bytes)
        .expect("invariant: memory takes any write, and counts are below 2^63");
    BASE64_STANDARD.encode(bytes)
}

/// Back again. Texts come from files of others: one that claims more than an hour in nanoseconds with three digits
/// could take any amount of memory, and is refused.
pub fn unpacked(text: &str) -> Result<Histogram<u64>, InvalidHistogram> {
    let bytes = BASE64_STANDARD
        .decode(text.trim())
        .map_err(|why| InvalidHistogram(why.to_string()))?;
    let claimed = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        Some(
            field
                .iter()
                .fold(0_u64, |all, byte| all << 8 | u64::from(*byte)),
        )
    };
    // Where the form says digits and the highest value (V2, header of 40 bytes).
    let (digits, highest) = (claimed(12, 4), claimed(24, 8));
    if digits.is_none_or(|digits| digits > 3) || highest.is_none_or(|highest| highest > HIGHEST) {
        return Err(InvalidHistogram("not one of ours".to_owned()));
    }
    Deserializer::new()
        .deserialize(&mut &bytes[..])
        .map_err(|why| InvalidHistogram(why.to_string()))
}

/// An hour in nanoseconds, and as far again: bounds are rounded up.
const HIGHEST: u64 = 2 * 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::figures::latencies, *};

    proptest! {
        #[test]
        fn packed_histogram_round_trips(values in prop::collection::vec(1..3_600_000_000_000_u64, 0..50)) {
            let mut of = latencies();
            for value in values {
                of.record(value).unwrap();
            }
            prop_assert_eq!(unpacked(&packed(&of)), Ok(of));
        }

        #[test]
        fn invalid_packed_text_is_rejected(text in "\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            prop_assert!(unpacked(&text).is_err());
            // Whatever it is, it neither panics nor takes gigabytes.
            let _ = unpacked(&BASE64_STANDARD.encode(bytes));
        }
    }

    #[test]
    fn oversized_histogram_is_rejected() {
        let huge = Histogram::<u64>::new_with_bounds(1, u64::MAX, 3).unwrap();
        assert!(unpacked(&packed(&huge)).is_err());
        let fine = Histogram::<u64>::new_with_bounds(1, 1_000_000, 5).unwrap();
        assert!(unpacked(&packed(&fine)).is_err());
    }
}
