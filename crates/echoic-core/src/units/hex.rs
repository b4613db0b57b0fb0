//! Bytes written in hexadecimal.

use std::{fmt, str::FromStr};

use super::{UnitError, error::Why};

/// Bytes, written as pairs of hexadecimal digits in any case: `0d0a`, `0x0d0a`, `0x0d 0x0a`, `0d:0a`, `0d,0a`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hex(pub Vec<u8>);

const HEX: &str = "pairs of hexadecimal digits, for example 0d0a, 0x0d0a or 0d:0a";

/// Parses bytes; `??` is a wildcard, returned as `None`. Groups of pairs are separated by one colon, one comma, or
/// spaces.
pub(crate) fn masked(text: &str) -> Option<Vec<Option<u8>>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let mut bytes = Vec::new();
    // A comma or colon may have spaces around it, but needs a group on both sides.
    for group in text.split([',', ':']) {
        if group.trim_ascii().is_empty() {
            return None;
        }
        for word in group.split_ascii_whitespace() {
            let digits = word
                .strip_prefix("0x")
                .or_else(|| word.strip_prefix("0X"))
                .unwrap_or(word);
            let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
                return None;
            };
            if pairs.is_empty() {
                return None;
            }
            for pair in pairs {
                bytes.push(match pair {
                    b"??" => None,
                    [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
                });
            }
        }
    }
    Some(bytes)
}

impl FromStr for Hex {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bytes = masked(text).and_then(|bytes| bytes.into_iter().collect());
        bytes
            .map(Self)
            .ok_or_else(|| UnitError::new("bytes", text, Why::Expected(HEX)))
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    fn all_hex_forms_parse_to_the_same_bytes(
        #[values(
            "ff0a",
            "FF0A",
            "0xff0a",
            "0XFF0a",
            "0xff 0x0a",
            "0xff,0x0a",
            "ff:0a",
            "ff 0a",
            "ff, 0a",
            " ff0a "
        )]
        text: &str,
    ) {
        assert_eq!(text.parse(), Ok(Hex(vec![0xff, 0x0a])));
    }

    #[rstest]
    fn invalid_hex_is_rejected(
        #[values(
            "", " ", "0x", "f", "fff", "f:ff", "ff:", ":ff", "ff::ff", "ff,,ff", "gg", "+1", "é",
            "??", "ff-ff"
        )]
        text: &str,
    ) {
        let error = text.parse::<Hex>().unwrap_err().to_string();
        assert!(
            error.starts_with("invalid bytes ") && error.contains("0d:0a"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn any_separator_gives_the_same_bytes(
            bytes in prop::collection::vec(any::<u8>(), 1..20),
            separator in "(|:|,| |, |  )",
            upper: bool,
            prefix: bool,
        ) {
            let words = bytes.iter().map(|byte| match (upper, prefix && !separator.is_empty()) {
                (false, false) => format!("{byte:02x}"),
                (true, false) => format!("{byte:02X}"),
                (false, true) => format!("0x{byte:02x}"),
                (true, true) => format!("0X{byte:02X}"),
            });
            let text = words.collect::<Vec<_>>().join(&separator);
            let hex = Hex(bytes);
            prop_assert_eq!(text.parse(), Ok(hex.clone()));
            prop_assert_eq!(hex.to_string().parse(), Ok(hex));
        }
    }
}
