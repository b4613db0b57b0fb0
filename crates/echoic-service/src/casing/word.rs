//! Eight bytes of text in a register: the sequence at their start is told and mapped without a loop.

use super::pairs::{self, Pairs};

/// The next eight bytes, the first in the lowest place.
#[derive(Clone, Copy)]
pub(super) struct Word(u64);

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES << 7;

impl Word {
    /// Zeros follow where there are less than eight bytes. They are ASCII, so they begin no character and continue none.
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

    /// How many bytes of ASCII it starts with.
    #[inline]
    pub(super) fn ascii_len(self) -> usize {
        ((self.0 & HIGH).trailing_zeros() / 8) as usize
    }

    /// The same with the ASCII letters in upper case, all in one step: on the lower seven bits, adding what lifts
    /// `a` to 128 marks all from `a` on, adding what lifts the one after `z` marks all past it. The mark of those
    /// between, moved by two, is the bit that tells `a` from `A`.
    #[inline]
    pub(super) fn upper(self) -> Self {
        let seven = self.0 & !HIGH;
        let from_a = seven + ONES * u64::from(0x80 - b'a');
        let past_z = seven + ONES * u64::from(0x80 - b'z' - 1);
        let letters = from_a & !past_z & !self.0 & HIGH;
        Self(self.0 ^ (letters >> 2))
    }

    /// The two bytes that become of the character of two bytes at the start, if the table knows.
    #[inline]
    pub(super) fn pair(self, pairs: &Pairs) -> Option<[u8; 2]> {
        if self.0 & 0xc0e0 != 0x80c0 {
            return None;
        }
        let upper = pairs::look_up(pairs, self.0 as u8, (self.0 >> 8) as u8);
        (upper != pairs::OTHERWISE).then(|| upper.to_le_bytes())
    }

    /// The character at the start, if there is a whole one and it is not ASCII.
    #[inline]
    pub(super) fn char(self) -> Option<char> {
        let word = self.0 as u32;
        let bits = |byte: u32, mask: u32| (word >> (8 * byte)) & mask;
        let (code, least) = if word & 0xc0_c0f0 == 0x80_80e0 {
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
        // Below the least it is a form too long; what `from_u32` refuses is a surrogate or past the last character.
        if code < least {
            None
        } else {
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The eight bytes are mapped in one addition: none may carry into the next.
    #[test]
    fn every_byte_at_every_position_maps_without_carry() {
        for byte in 0..=u8::MAX {
            for neighbour in [0, b'A', b'a', b'z', b'{', 0x7f, 0x80, 0xe1, 0xff] {
                for address in 0..8 {
                    let mut bytes = [neighbour; 8];
                    bytes[address] = byte;
                    let mut out = Vec::new();
                    Word::load(&bytes).upper().write(8, &mut out);
                    assert_eq!(out, bytes.to_ascii_uppercase());
                }
            }
        }
    }
}
