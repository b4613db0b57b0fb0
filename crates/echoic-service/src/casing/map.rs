//! Fast upper-casing of contiguous bytes.
//!
//! ASCII is mapped at the speed of a copy, two-byte characters by a table, and characters of ranges without case are
//! copied. The standard library maps the rest.

use super::pairs::{PAIRS, Pairs};
use super::ranges;
use super::sequence::{self, Sequence};
use super::word::Word;

/// Bytes checked at a time to choose between the ASCII path and the general one. Small enough that one accent does not
/// slow down a long ASCII text, and that the checked bytes are still in the L1 cache when they are copied.
const BLOCK: usize = 1024;

/// Maps `bytes`, appends the result to `out`, and returns the unfinished character at the end, 0 to 3 bytes.
#[inline]
pub(super) fn map<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    if bytes.len() <= BLOCK && bytes.is_ascii() {
        map_ascii(bytes, out);
        return &[];
    }
    map_blocks(bytes, out)
}

#[inline]
fn map_ascii(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(bytes);
    out[start..].make_ascii_uppercase();
}

fn map_blocks<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    // Most texts keep their length. `Word::write` writes a whole word before it truncates it.
    out.reserve(rest.len() + size_of::<Word>());
    while !rest.is_empty() {
        let block = &rest[..rest.len().min(BLOCK)];
        let mapped = if block.is_ascii() {
            map_ascii(block, out);
            block.len()
        } else {
            map_mixed(rest, &PAIRS, out)
        };
        rest = &rest[mapped..];
        if mapped < block.len() {
            break;
        }
    }
    rest
}

/// Maps at least one block of `bytes`, or all of them except an unfinished character at the end. Returns the number of
/// bytes mapped.
fn map_mixed(bytes: &[u8], pairs: &Pairs, out: &mut Vec<u8>) -> usize {
    let mut mapped = 0;
    while mapped < bytes.len().min(BLOCK) {
        let rest = &bytes[mapped..];
        let word = Word::load(rest);
        let ascii = word.ascii_len().min(rest.len());
        mapped += if ascii > 0 {
            word.upper().write(ascii, out);
            ascii
        } else if let Some(upper) = word.pair(pairs) {
            out.extend_from_slice(&upper);
            upper.len()
        } else if let Some(char) = word.char() {
            if ranges::is_uncased(char) {
                word.write(char.len_utf8(), out);
            } else {
                sequence::write_upper(char, out);
            }
            char.len_utf8()
        } else {
            let sequence = Sequence::at_start(rest);
            sequence.write(rest, out);
            match sequence.len() {
                0 => return mapped,
                len => len,
            }
        };
    }
    mapped
}
