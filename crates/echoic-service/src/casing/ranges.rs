//! Ranges of 64 code points without case: Han, Hangul, Devanagari, dashes, emoji. Their characters are copied, which
//! saves a binary search of the standard library for each.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

const RANGE_LEN: u32 = 64;
const RANGE_COUNT: usize = (char::MAX as usize + 1) / RANGE_LEN as usize;

const UNKNOWN: u8 = 0;
const UNCASED: u8 = 1;
const CASED: u8 = 2;

/// The state of each range. It is computed from the standard library when the range is first used, in less than a
/// microsecond; all ranges at once would take ten milliseconds. 17 KiB, of which only used pages take memory. Threads
/// that compute the same range at once get the same state, so `Relaxed` is enough.
static RANGES: [AtomicU8; RANGE_COUNT] = [const { AtomicU8::new(UNKNOWN) }; RANGE_COUNT];

/// Whether upper-casing changes no character of the range of `char`.
#[inline]
pub(super) fn is_uncased(char: char) -> bool {
    let range = u32::from(char) / RANGE_LEN;
    match RANGES[range as usize].load(Relaxed) {
        UNKNOWN => compute(range),
        known => known == UNCASED,
    }
}

#[cold]
fn compute(range: u32) -> bool {
    let first = range * RANGE_LEN;
    let uncased = (first..first + RANGE_LEN)
        .filter_map(char::from_u32)
        .all(|char| char.to_uppercase().eq([char]));
    RANGES[range as usize].store(if uncased { UNCASED } else { CASED }, Relaxed);
    uncased
}
