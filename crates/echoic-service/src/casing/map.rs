//! The mapping of bytes that lie together, made for speed: ASCII at the pace of copying, two-byte characters by
//! a table, what has no case by a look at its stretch, all else by the standard library.

use super::pairs::{PAIRS, Pairs};
use super::sequence::{self, Sequence};
use super::stretches;
use super::word::Word;

/// Bytes looked at before choosing between the fast way and the careful one, so that one accent does not slow
/// down a long ASCII text, and what was looked at is still in the nearest cache when it is copied.
const BLOCK: usize = 1024;

/// Maps `bytes`, appends the result to `out`, and returns the unfinished character at the end, 0 to 3 bytes.
#[inline]
pub(super) fn map<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    if bytes.len() <= BLOCK && bytes.is_ascii() {
        ascii(bytes, out);
        return &[];
    }
    blocks(bytes, out)
}

#[inline]
fn ascii(bytes: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(bytes);
    out[at..].make_ascii_uppercase();
}

fn blocks<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    // Most texts keep their length; a word is written whole before it is cut to what counts.
    out.reserve(rest.len() + size_of::<Word>());
    while !rest.is_empty() {
        let block = &rest[..rest.len().min(BLOCK)];
        let mapped = if block.is_ascii() {
            ascii(block, out);
            block.len()
        } else {
            mixed(rest, &PAIRS, out)
        };
        rest = &rest[mapped..];
        if mapped < block.len() {
            break;
        }
    }
    rest
}

/// Maps at least a block of `bytes`, or all of them but an unfinished character at their end; returns how many.
fn mixed(bytes: &[u8], pairs: &Pairs, out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while at < bytes.len().min(BLOCK) {
        let rest = &bytes[at..];
        let word = Word::load(rest);
        let ascii = word.ascii_len().min(rest.len());
        at += if ascii > 0 {
            word.upper().write(ascii, out);
            ascii
        } else if let Some(upper) = word.pair(pairs) {
            out.extend_from_slice(&upper);
            upper.len()
        } else if let Some(char) = word.char() {
            if stretches::is_same(char) {
                word.write(char.len_utf8(), out);
            } else {
                sequence::write_upper(char, out);
            }
            char.len_utf8()
        } else {
            let sequence = Sequence::at_start(rest);
            sequence.write(rest, out);
            match sequence.len() {
                0 => return at,
                len => len,
            }
        };
    }
    at
}
