//! Detects TLS on ports that do not speak it.

/// Whether `bytes` begin as a TLS record with a `ClientHello` (RFC 8446, sections 4 and 5.1): type 22, version 3.0 to 3.4,
/// a length, handshake type 1.
pub fn begins_as_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [22, 3, 0..=4, high, low, 1, ..] if (*high, *low) > (0, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_hello_is_detected_and_other_records_are_not() {
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], true),
            (b"\x16\x03\x03\x00\x05\x01", true),
            (b"\x16\x03\x01\x00\x03\x01", false), // too short for a header
            (b"\x16\x03\x01\x02\x00\x02\x00", false), // a ServerHello
            (b"\x15\x03\x01\x00\x02\x02\x32", false),
            (b"\x16\x03\x01\x02\x00", false),
            (b"hello", false),
            (b"", false),
        ] {
            assert_eq!(begins_as_tls(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
