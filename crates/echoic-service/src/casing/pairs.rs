//! The table for characters of two bytes, U+0080 to U+07FF: Latin with accents, Greek, Cyrillic, Armenian,
//! Hebrew, Arabic. Most of them become two bytes again, so one look is the whole mapping.

use std::sync::LazyLock;

/// The two bytes that a pair becomes, the first in the low half; [`OTHERWISE`] where the table does not know.
pub(super) type Pairs = [u16; 1 << 11];

/// The result is not two bytes long (`ŉ`, `ı`, `ΐ`), or the pair is not UTF-8 (a character of one byte in two).
/// No mapping yields it: that would be two NULs.
pub(super) const OTHERWISE: u16 = 0;

/// Made from the standard library at the first use, some ten microseconds, because `to_uppercase` is not const.
/// 4 KiB, of which a text touches its own script's 128 bytes or so.
pub(super) static PAIRS: LazyLock<Pairs> = LazyLock::new(|| {
    let mut pairs = [OTHERWISE; 1 << 11];
    for char in '\u{80}'..='\u{7ff}' {
        let mut upper = String::new();
        upper.extend(char.to_uppercase());
        if let Ok(two) = <[u8; 2]>::try_from(upper.as_bytes()) {
            pairs[char as usize] = u16::from_le_bytes(two);
        }
    }
    pairs
});

/// What a lead byte and a continuation byte, in this order, become. For any other two bytes the answer means nothing.
#[inline]
pub(super) fn look_up(pairs: &Pairs, lead: u8, continuation: u8) -> u16 {
    pairs[usize::from(lead & 0x1f) << 6 | usize::from(continuation & 0x3f)]
}
