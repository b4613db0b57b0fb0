//! Histograms as JSON strings: the V2 format of HdrHistogram in base64.

use base64::prelude::{BASE64_STANDARD, Engine};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2Serializer},
};
use thiserror::Error;

/// Error from decoding a histogram.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid histogram: expected the V2 format of HdrHistogram in base64: {0}")]
pub struct InvalidHistogram(String);

/// Encodes a histogram without loss.
///
/// # Panics
/// If a count exceeds 63 bits, which no run reaches.
pub fn packed(of: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(of, &mut bytes)
        .expect("invariant: memory takes any write, and counts are below 2^63");
    BASE64_STANDARD.encode(bytes)
}

/// Decodes a histogram. The text is untrusted: a header with a maximum above about an hour in nanoseconds, or with more
/// than three digits, could allocate any amount of memory and is rejected.
pub fn unpacked(text: &str) -> Result<Histogram<u64>, InvalidHistogram> {
    let bytes = BASE64_STANDARD
        .decode(text.trim())
        .map_err(|why| InvalidHistogram(why.to_string()))?;
    let header_field = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        Some(
            field
                .iter()
                .fold(0_u64, |all, byte| all << 8 | u64::from(*byte)),
        )
    };
    // Significant digits and highest value in the V2 header of 40 bytes.
    let (digits, highest) = (header_field(12, 4), header_field(24, 8));
    if digits.is_none_or(|digits| digits > 3) || highest.is_none_or(|highest| highest > HIGHEST) {
        return Err(InvalidHistogram(
            "digits or maximum out of bounds".to_owned(),
        ));
    }
    Deserializer::new()
        .deserialize(&mut &bytes[..])
        .map_err(|why| InvalidHistogram(why.to_string()))
}

/// Twice an hour in nanoseconds, because bounds are rounded up.
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
            // Any bytes must neither panic nor allocate gigabytes.
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
