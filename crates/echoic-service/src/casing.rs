//! Upper case for bytes that arrive in pieces: the heart of `upper`.
//!
//! The mapping is Unicode's default one for whole strings (`ß` becomes `SS`, `ŉ` becomes `ʼN`), with no
//! rules of a language. Upper case looks at one character at a time, so only a character that the cut went
//! through has to wait; lower case does not have this property (a final `Σ` looks ahead) and is not here.
//!
//! Bytes that are no UTF-8 pass unchanged, as [`[u8]::utf8_chunks`](slice::utf8_chunks) tells them apart.
//! A message may mix encodings, and a server that answers must not lose what it does not understand.
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
mod sequence;
mod stretches;
mod word;

use sequence::{LONGEST, Sequence};

/// The version of Unicode whose mapping this is: the one of the standard library that echoic was built with.
///
/// Versions differ in a few letters, so two programs agree on upper case only if they agree on this.
pub const UNICODE_VERSION: (u8, u8, u8) = char::UNICODE_VERSION;

/// Upper-cases a stream of bytes however it is cut.
///
/// Whatever the cuts, the output after [`finish`](Self::finish) is the same, and for valid UTF-8 it is that of
/// [`str::to_uppercase`]. It may be up to three times as long as the input (`ΐ`, 2 bytes, becomes 6).
///
/// One of these lives in every conversation, so it is four bytes and owns nothing.
#[derive(Clone, Debug, Default)]
pub struct Upper {
    held: [u8; LONGEST - 1],
    held_len: u8,
}

impl Upper {
    /// Maps `bytes` and appends the result to `out`.
    ///
    /// Up to 3 bytes of a character that is not finished are held until the next call; nothing else waits.
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

    /// The stream or the message has ended: what is held can no longer become a character, so it is invalid and
    /// passes unchanged. Afterwards a new stream may begin.
    #[inline]
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.held());
        self.held_len = 0;
    }

    /// The bytes of the unfinished character, 0 to 3.
    #[inline]
    pub fn held(&self) -> &[u8] {
        &self.held[..usize::from(self.held_len)]
    }

    /// Decides about the held bytes with the help of the first of `bytes`, and returns those not used for it.
    #[cold]
    fn complete<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let held_len = self.held().len();
        let taken = bytes.len().min(LONGEST - held_len);
        let mut joined = [0; LONGEST];
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
                // Held bytes were a good beginning, so at least they are used up.
                &bytes[sequence.len().saturating_sub(held_len)..]
            }
        }
    }

    fn hold(&mut self, unfinished: &[u8]) {
        self.held[..unfinished.len()].copy_from_slice(unfinished);
        self.held_len = unfinished.len() as u8;
    }
}

/// Upper-cases one whole message and appends the result to `out`: an [`Upper`] that sees nothing before it and
/// nothing after it.
#[inline]
pub fn upper(bytes: &[u8], out: &mut Vec<u8>) {
    let unfinished = map::map(bytes, out);
    out.extend_from_slice(unfinished);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new version of Rust may bring a new Unicode: then the manual's version changes too.
    #[test]
    fn unicode_version_is_17() {
        assert_eq!((UNICODE_VERSION.0, UNICODE_VERSION.1), (17, 0));
    }

    #[test]
    fn upper_state_fits_in_eight_bytes() {
        assert!(size_of::<Upper>() <= 8);
    }
}
