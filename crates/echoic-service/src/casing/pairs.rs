//! The table of two-byte characters, U+0080 to U+07FF: Latin with accents, Greek, Cyrillic, Armenian, Hebrew, Arabic.
//! Most of them map to two bytes again, so that one lookup maps them.

use std::sync::LazyLock;

/// For each code point the two bytes of its upper case, little-endian, or [`UNMAPPED`].
pub(super) type Pairs = [u16; 1 << 11];

/// The upper case is not two bytes long (`ŉ`, `ı`, `ΐ`), or the pair is an overlong encoding of ASCII. Not a valid
/// entry otherwise, since it would be two NULs.
pub(super) const UNMAPPED: u16 = 0;

/// Built from the standard library at the first use, in about ten microseconds, because `to_uppercase` is not const.
/// 4 KiB, of which a text uses the roughly 128 bytes of its script.
pub(super) static PAIRS: LazyLock<Pairs> = LazyLock::new(|| {
    let mut pairs = [UNMAPPED; 1 << 11];
    for char in '\u{80}'..='\u{7ff}' {
        let mut upper = String::new();
        upper.extend(char.to_uppercase());
        if let Ok(two) = <[u8; 2]>::try_from(upper.as_bytes()) {
            pairs[char as usize] = u16::from_le_bytes(two);
        }
    }
    pairs
});

/// Returns the entry of a lead byte and a continuation byte. For any other two bytes the result is meaningless.
#[inline]
pub(super) fn lookup(pairs: &Pairs, lead: u8, continuation: u8) -> u16 {
    pairs[usize::from(lead & 0x1f) << 6 | usize::from(continuation & 0x3f)]
}
