//! ASCII case mapping in place: the fast path of `upper` and `lower`.
//!
//! One pass both checks and maps, so that each byte is loaded once: 64 KiB exceed the L1 cache. If the bytes are not all
//! ASCII, the letters have been mapped nevertheless. The slow path that follows has the same result, since the mapping
//! of other characters depends on whether letters are around them and not on the case of these.

/// Maps the ASCII letters to upper case. Returns whether all bytes are ASCII.
pub(crate) fn upper(bytes: &mut [u8]) -> bool {
    flip_case(bytes, b'a')
}

/// Maps the ASCII letters to lower case. Returns whether all bytes are ASCII.
pub(crate) fn lower(bytes: &mut [u8]) -> bool {
    flip_case(bytes, b'A')
}

/// Flips the case of the 26 letters from `first` on. Has no branch and no early return, so that the compiler vectorises
/// the loop.
#[inline]
fn flip_case(bytes: &mut [u8], first: u8) -> bool {
    const CASE: u8 = b'a' ^ b'A';
    let mut union = 0;
    for byte in bytes {
        union |= *byte;
        let is_letter = byte.wrapping_sub(first) < 26;
        *byte ^= CASE * u8::from(is_letter);
    }
    union.is_ascii()
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
