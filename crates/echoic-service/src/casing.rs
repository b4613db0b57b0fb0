//! Upper-casing of a byte stream that arrives in pieces, for the service `upper`.
//!
//! The mapping is Unicode's default full mapping (`ß` becomes `SS`, `ŉ` becomes `ʼN`), independent of language. It maps
//! each character by itself, so only a character that is cut between two pieces is held back. Lower case depends on
//! context (a final `Σ` looks ahead) and is not implemented here.
//!
//! Invalid UTF-8, as delimited by [`[u8]::utf8_chunks`](slice::utf8_chunks), passes unchanged: a message may mix
//! encodings, and no byte may be lost.
//!
//! ```
//! use echoic_service::casing::Upper;
//!
//! let (mut upper, mut out) = (Upper::default(), Vec::new());
//! for byte in "straße".bytes() {
//!     upper.push(&[byte], &mut out);
//! }
//! upper.finish(&mut out);
//! assert_eq!(out, b"STRASSE");
//! ```

mod map;
#[doc(hidden)]
pub mod oracle;
mod pairs;
mod ranges;
mod sequence;
mod word;

use sequence::{Sequence, UTF8_LEN_MAX};

/// The Unicode version of the mapping: that of the standard library which echoic was built with.
///
/// Versions differ in a few letters, so the results of two programs agree only if their versions do.
pub const UNICODE_VERSION: (u8, u8, u8) = char::UNICODE_VERSION;

/// Upper-cases a stream of bytes that arrives in pieces.
///
/// The output after [`finish`](Self::finish) does not depend on the pieces, and for valid UTF-8 it is that of
/// [`str::to_uppercase`]. It may be up to three times as long as the input (`ΐ`, 2 bytes, becomes 6).
///
/// Each conversation has one, so it is four bytes and does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Upper {
    held: [u8; UTF8_LEN_MAX - 1],
    held_len: u8,
}

impl Upper {
    /// Maps `bytes` and appends the result to `out`.
    ///
    /// Holds an unfinished character at the end, up to 3 bytes, until the next call.
    #[inline]
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let rest = if self.held_len == 0 {
            bytes
        } else {
            self.complete(bytes, out)
        };
        let unfinished = map::map(rest, out);
        if !unfinished.is_empty() {
            self.hold(unfinished);
        }
    }

    /// Ends the stream: appends the held bytes unchanged, since they are invalid without the rest of their character.
    /// Afterwards a new stream may begin.
    #[inline]
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.held());
        self.held_len = 0;
    }

    /// Goes on where another one holds these bytes ([`held`](Self::held)); `None` if they begin no character.
    pub fn with_held(held: &[u8]) -> Option<Self> {
        let mut upper = Self::default();
        if held.is_empty() {
            return Some(upper);
        }
        if !matches!(Sequence::at_start(held), Sequence::Unfinished) {
            return None;
        }
        upper.hold(held);
        Some(upper)
    }

    /// Returns the held bytes of an unfinished character, 0 to 3.
    #[inline]
    pub fn held(&self) -> &[u8] {
        &self.held[..usize::from(self.held_len)]
    }

    /// Completes the held character with the first of `bytes`, and returns the rest of `bytes`.
    #[cold]
    fn complete<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let held_len = self.held().len();
        let taken = bytes.len().min(UTF8_LEN_MAX - held_len);
        let mut joined = [0; UTF8_LEN_MAX];
        joined[..held_len].copy_from_slice(self.held());
        joined[held_len..held_len + taken].copy_from_slice(&bytes[..taken]);
        let joined = &joined[..held_len + taken];

        match Sequence::at_start(joined) {
            Sequence::Unfinished => {
                self.hold(joined);
                &bytes[taken..]
            }
            sequence => {
                self.held_len = 0;
                sequence.write(joined, out);
                // The held bytes were a valid prefix, so the sequence covers at least them.
                &bytes[sequence.len().saturating_sub(held_len)..]
            }
        }
    }

    fn hold(&mut self, unfinished: &[u8]) {
        self.held[..unfinished.len()].copy_from_slice(unfinished);
        self.held_len = unfinished.len() as u8;
    }
}

/// Upper-cases one whole message and appends the result to `out`, as a new [`Upper`] with one piece would.
#[inline]
pub fn upper(bytes: &[u8], out: &mut Vec<u8>) {
    let unfinished = map::map(bytes, out);
    out.extend_from_slice(unfinished);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new Rust may bring a new Unicode. Then change the version in the manual too.
    #[test]
    fn unicode_version_is_17() {
        assert_eq!((UNICODE_VERSION.0, UNICODE_VERSION.1), (17, 0));
    }

    #[test]
    fn upper_state_fits_in_eight_bytes() {
        assert!(size_of::<Upper>() <= 8);
    }
}
