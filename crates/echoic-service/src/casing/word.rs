//! Eight bytes of text in a register: decodes and maps the sequence at their start without a loop.

use super::pairs::{self, Pairs};

/// The next eight bytes, little-endian.
#[derive(Clone, Copy)]
pub(super) struct Word(u64);

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES << 7;

impl Word {
    /// Loads the first eight bytes. Fewer are padded with zeros, which are ASCII and thus part of no character.
    #[inline]
    pub(super) fn load(bytes: &[u8]) -> Self {
        let mut eight = [0; 8];
        match bytes.first_chunk() {
            Some(first) => eight = *first,
            None => eight[..bytes.len()].copy_from_slice(bytes),
        }
        Self(u64::from_le_bytes(eight))
    }

    /// Appends the first `len` bytes, at most eight, to `out`.
    #[inline]
    pub(super) fn write(self, len: usize, out: &mut Vec<u8>) {
        let end = out.len() + len;
        // A copy of constant length is one instruction; one of `len` bytes would be a call.
        out.extend_from_slice(&self.0.to_le_bytes());
        out.truncate(end);
    }

    /// Returns the number of ASCII bytes at the start.
    #[inline]
    pub(super) fn ascii_len(self) -> usize {
        ((self.0 & HIGH).trailing_zeros() / 8) as usize
    }

    /// Returns the word with its ASCII letters in upper case, all bytes at once. On the lower seven bits of each byte, an
    /// addition that lifts `a` to 128 sets the high bit from `a` on, and one that lifts the byte after `z` sets it past
    /// `z`. The high bit of the bytes between, shifted right by two, is the bit in which `a` and `A` differ.
    #[inline]
    pub(super) fn upper(self) -> Self {
        let seven = self.0 & !HIGH;
        let from_a = seven + ONES * u64::from(0x80 - b'a');
        let past_z = seven + ONES * u64::from(0x80 - b'z' - 1);
        let letters = from_a & !past_z & !self.0 & HIGH;
        Self(self.0 ^ (letters >> 2))
    }

    /// Returns the upper case of the two-byte character at the start, if there is one and the table has it.
    #[inline]
    pub(super) fn pair(self, pairs: &Pairs) -> Option<[u8; 2]> {
        if self.0 & 0xc0e0 != 0x80c0 {
            return None;
        }
        let upper = pairs::lookup(pairs, self.0 as u8, (self.0 >> 8) as u8);
        (upper != pairs::UNMAPPED).then(|| upper.to_le_bytes())
    }

    /// Returns the character at the start, if it is complete, valid and not ASCII.
    #[inline]
    pub(super) fn char(self) -> Option<char> {
        let word = self.0 as u32;
        let bits = |byte: u32, mask: u32| (word >> (8 * byte)) & mask;
        let (code, min) = if word & 0xc0_c0f0 == 0x80_80e0 {
            (
                bits(0, 0x0f) << 12 | bits(1, 0x3f) << 6 | bits(2, 0x3f),
                0x800,
            )
        } else if word & 0xc0e0 == 0x80c0 {
            (bits(0, 0x1f) << 6 | bits(1, 0x3f), 0x80)
        } else if word & 0xc0c0_c0f8 == 0x8080_80f0 {
            (
                bits(0, 0x07) << 18 | bits(1, 0x3f) << 12 | bits(2, 0x3f) << 6 | bits(3, 0x3f),
                0x1_0000,
            )
        } else {
            return None;
        };
        // Below `min` the encoding is overlong. `from_u32` rejects surrogates and numbers above U+10FFFF.
        if code < min {
            None
        } else {
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One addition maps all eight bytes: no byte may carry into the next.
    #[test]
    fn every_byte_at_every_position_maps_without_carry() {
        for byte in 0..=u8::MAX {
            for neighbour in [0, b'A', b'a', b'z', b'{', 0x7f, 0x80, 0xe1, 0xff] {
                for position in 0..8 {
                    let mut bytes = [neighbour; 8];
                    bytes[position] = byte;
                    let mut out = Vec::new();
                    Word::load(&bytes).upper().write(8, &mut out);
                    assert_eq!(out, bytes.to_ascii_uppercase());
                }
            }
        }
    }
}
