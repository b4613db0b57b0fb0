//! Which stretches of 64 characters have no upper case to look for: Han, Hangul, Devanagari, dashes, emoji.
//! There the standard library would search for every character in vain.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

const LEN: u32 = 64;
const COUNT: usize = (char::MAX as usize + 1) / LEN as usize;

const UNKNOWN: u8 = 0;
const SAME: u8 = 1;
const CHANGES: u8 = 2;

/// What is known of each stretch. Learnt from the standard library when its first character comes by, well under
/// a microsecond; all at once would be ten milliseconds. 17 KiB, of which only pages that are used take memory.
/// Threads that learn the same stretch at once learn the same thing, so no order is needed.
static STRETCHES: [AtomicU8; COUNT] = [const { AtomicU8::new(UNKNOWN) }; COUNT];

/// Whether neither `char` nor any other of its stretch is changed by upper-casing.
#[inline]
pub(super) fn is_same(char: char) -> bool {
    let stretch = u32::from(char) / LEN;
    match STRETCHES[stretch as usize].load(Relaxed) {
        UNKNOWN => learn(stretch),
        known => known == SAME,
    }
}

#[cold]
fn learn(stretch: u32) -> bool {
    let first = stretch * LEN;
    let same = (first..first + LEN)
        .filter_map(char::from_u32)
        .all(|char| char.to_uppercase().eq([char]));
    STRETCHES[stretch as usize].store(if same { SAME } else { CHANGES }, Relaxed);
    same
}
