//! Letters of ASCII changed where they lie: the short way of `upper` and `lower`.
//!
//! One pass looks and changes, so that bytes are fetched once: 64 KiB are more than the nearest cache holds. Where
//! something else than ASCII is found in the end, its letters have been changed all the same, which the long way would
//! have done too: it comes to the same, since what a character beyond ASCII becomes depends on whether letters are
//! around it and not on their case.

/// Letters into upper case; whether nothing but ASCII was there.
pub(crate) fn upper(bytes: &mut [u8]) -> bool {
    change(bytes, b'a')
}

/// Letters into lower case; whether nothing but ASCII was there.
pub(crate) fn lower(bytes: &mut [u8]) -> bool {
    change(bytes, b'A')
}

/// Changes the case of the 26 letters from `first` on. No branch and no early end: the compiler makes vectors of it.
#[inline]
fn change(bytes: &mut [u8], first: u8) -> bool {
    const CASE: u8 = b'a' ^ b'A';
    let mut all = 0;
    for byte in bytes {
        all |= *byte;
        let is_letter = byte.wrapping_sub(first) < 26;
        *byte ^= CASE * u8::from(is_letter);
    }
    all.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_case_mapping_matches_std() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        for part in [&all[..128], &all, b""] {
            let (mut raised, mut lowered) = (part.to_vec(), part.to_vec());
            assert_eq!(upper(&mut raised), part.is_ascii());
            assert_eq!(lower(&mut lowered), part.is_ascii());
            assert_eq!(raised, part.to_ascii_uppercase());
            assert_eq!(lowered, part.to_ascii_lowercase());
        }
    }
}
