//! Framings: how a byte stream is divided into messages. No I/O.
//!
//! A [`Splitter`] receives the bytes read and returns where messages end; [`Framing::open`] and [`Framing::close`] frame
//! a reply. Neither uses a socket, so the server, the client, the property tests and the fuzzers run the same code. The
//! messages do not depend on how the stream was divided into reads.
//!
//! To add a framing: add a variant and its word here, and its arm in `split.rs` and in `join.rs`.

mod delimiter;
mod head;
mod join;
#[doc(hidden)]
pub mod oracle;
mod split;

use std::{borrow::Cow, fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::units::{Bytes, Hex, quoted};

pub use self::{
    delimiter::Delimiter,
    head::{Claim, Violation},
    join::{ReplyEnd, ReplyTooLong},
    split::{Counted, Span, Split, Splitter},
};

/// How a stream is divided into messages, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A message is what one read returned. The default, because clients in tutorials often send no newline, and a
    /// server that waits for one never answers them. Services then work on the stream.
    #[default]
    Chunk,
    /// A message ends at `\n`. A last line without one is still a message.
    Line,
    /// A message ends at `\r\n`; `\n` alone is part of it.
    Crlf,
    /// A message ends at a zero byte.
    Nul,
    /// A message ends at these bytes.
    Delim(Delimiter),
    /// Every message has this length in bytes.
    Fixed(NonZeroU32),
    /// The length of the body as an integer of this width, then the body.
    Prefix(Width),
    /// The length as a base-128 varint, least significant group first (as in Protocol Buffers), then the body.
    Varint,
    /// `5:hello,` (D. J. Bernstein, Netstrings, 1997).
    Netstring,
    /// Header lines, one of which is `Content-Length: N`, an empty line, then the body (as in the base protocol of the
    /// Language Server Protocol).
    ContentLength,
}

/// The width and byte order of a length prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// One byte.
    U8,
    /// Two bytes, most significant first.
    U16Be,
    /// Two bytes, least significant first.
    U16Le,
    /// Four bytes, most significant first.
    U32Be,
    /// Four bytes, least significant first.
    U32Le,
}

impl Width {
    /// Returns the size of the prefix in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16Be | Self::U16Le => 2,
            Self::U32Be | Self::U32Le => 4,
        }
    }

    /// Returns the longest body it can encode, in bytes.
    pub fn max(self) -> u32 {
        match self {
            Self::U8 => u8::MAX.into(),
            Self::U16Be | Self::U16Le => u16::MAX.into(),
            Self::U32Be | Self::U32Le => u32::MAX,
        }
    }
}

/// The framings of both directions. Written `line`, or `line/crlf` if they differ; serialised as it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FramingPair {
    /// The framing of what we receive.
    pub inbound: Framing,
    /// The framing of what we send.
    pub outbound: Framing,
}

/// Error from parsing a framing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The text is not a known framing.
    #[error(
        "invalid framing {}: expected chunk, line, crlf, nul, delim:HEX, fixed:N, u8, u16be, u16le, u32be, u32le, varint, netstring or content-length, or IN/OUT where the directions differ",
        quoted(.0)
    )]
    Unknown(String),
    /// The text after `delim:` is not hexadecimal bytes.
    #[error(
        "invalid delimiter in {}: expected hexadecimal bytes, for example delim:0d0a",
        quoted(.0)
    )]
    Delimiter(String),
    /// The length is 0: `fixed:0`.
    #[error("invalid framing {}: the length must be at least 1", quoted(.0))]
    Zero(String),
    /// The text after `fixed:` is not a length.
    #[error(
        "invalid length in {}: expected bytes from 1 to 4294967295, for example fixed:64 or fixed:4k",
        quoted(.0)
    )]
    Length(String),
    /// One side of the slash is empty.
    #[error(
        "invalid framing {}: expected a framing on both sides of the slash, for example line/crlf",
        quoted(.0)
    )]
    Side(String),
}

/// The framings that are written as one word.
const WORDS: [(&str, Framing); 12] = [
    ("chunk", Framing::Chunk),
    ("line", Framing::Line),
    ("crlf", Framing::Crlf),
    ("nul", Framing::Nul),
    ("u8", Framing::Prefix(Width::U8)),
    ("u16be", Framing::Prefix(Width::U16Be)),
    ("u16le", Framing::Prefix(Width::U16Le)),
    ("u32be", Framing::Prefix(Width::U32Be)),
    ("u32le", Framing::Prefix(Width::U32Le)),
    ("varint", Framing::Varint),
    ("netstring", Framing::Netstring),
    ("content-length", Framing::ContentLength),
];

impl Framing {
    /// Returns what the header of an unfinished message claims, which begins with `bytes`; `None` under framings whose
    /// messages have no length.
    pub fn claim(&self, bytes: &[u8]) -> Option<Claim> {
        head::claim(*self, bytes)
    }

    /// Whether messages have boundaries of their own. Not so for `chunk`, where a read may end within a character.
    pub fn is_declared(self) -> bool {
        self != Self::Chunk
    }

    /// Whether a length precedes each message. Bytes that answer no message then need a length too.
    pub fn has_length(self) -> bool {
        matches!(
            self,
            Self::Prefix(_) | Self::Varint | Self::Netstring | Self::ContentLength
        )
    }

    /// Returns the bytes that end every message; `None` if messages are delimited by length.
    pub fn terminator(&self) -> Option<&[u8]> {
        match self {
            Self::Line => Some(b"\n"),
            Self::Crlf => Some(b"\r\n"),
            Self::Nul => Some(b"\0"),
            Self::Delim(delimiter) => Some(delimiter.bytes()),
            Self::Netstring => Some(b","),
            _ => None,
        }
    }
}

impl FromStr for Framing {
    type Err = FramingError;

    fn from_str(text: &str) -> Result<Self, FramingError> {
        let owned = || text.to_owned();
        let (word, argument) = match text.split_once(':') {
            Some((word, argument)) => (word, Some(argument)),
            None => (text, None),
        };
        match argument {
            Some(hex) if word.eq_ignore_ascii_case("delim") => hex
                .parse()
                .ok()
                .and_then(|Hex(bytes)| Delimiter::new(&bytes))
                .map(Self::Delim)
                .ok_or_else(|| FramingError::Delimiter(owned())),
            Some(length) if word.eq_ignore_ascii_case("fixed") => {
                let Ok(Bytes(length)) = length.parse() else {
                    return Err(FramingError::Length(owned()));
                };
                let length = u32::try_from(length).map_err(|_| FramingError::Length(owned()))?;
                NonZeroU32::new(length)
                    .map(Self::Fixed)
                    .ok_or_else(|| FramingError::Zero(owned()))
            }
            _ => WORDS
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(text))
                .map(|(_, framing)| *framing)
                .ok_or_else(|| FramingError::Unknown(owned())),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delim(delimiter) => write!(f, "delim:{delimiter}"),
            Self::Fixed(bytes) => write!(f, "fixed:{bytes}"),
            _ => {
                let word = WORDS
                    .iter()
                    .find(|(_, framing)| framing == self)
                    .map(|(word, _)| *word);
                f.write_str(word.expect("invariant: every other framing is in the table"))
            }
        }
    }
}

impl From<Framing> for FramingPair {
    fn from(both: Framing) -> Self {
        Self {
            inbound: both,
            outbound: both,
        }
    }
}

impl FromStr for FramingPair {
    type Err = FramingError;

    fn from_str(text: &str) -> Result<Self, FramingError> {
        match text.split_once('/') {
            Some(("", _) | (_, "")) => Err(FramingError::Side(text.to_owned())),
            Some((inbound, outbound)) => Ok(Self {
                inbound: inbound.parse()?,
                outbound: outbound.parse()?,
            }),
            None => Ok(text.parse::<Framing>()?.into()),
        }
    }
}

impl Serialize for FramingPair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FramingPair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for FramingPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inbound == self.outbound {
            write!(f, "{}", self.inbound)
        } else {
            write!(f, "{}/{}", self.inbound, self.outbound)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framings() -> impl Strategy<Value = Framing> {
        let delimiter = prop::collection::vec(any::<u8>(), 1..9);
        prop_oneof![
            (0..WORDS.len()).prop_map(|i| WORDS[i].1),
            delimiter.prop_map(|bytes| Framing::Delim(Delimiter::new(&bytes).unwrap())),
            any::<NonZeroU32>().prop_map(Framing::Fixed),
        ]
    }

    proptest! {
        #[test]
        fn parse_and_print_are_inverse(inbound in framings(), outbound in framings()) {
            let framing = FramingPair { inbound, outbound };
            prop_assert_eq!(framing.to_string().parse(), Ok(framing));
        }
    }

    #[test]
    fn every_framing_but_chunk_is_declared() {
        for (word, framing) in WORDS {
            assert_eq!(framing.is_declared(), word != "chunk");
        }
    }

    #[test]
    fn words_may_be_in_any_case() {
        for (text, printed) in [
            ("LINE/Crlf", "line/crlf"),
            ("Content-Length", "content-length"),
            ("Delim:0x0D 0x0A", "delim:0d0a"),
            ("delim:0d:0a", "delim:0d0a"),
            ("FIXED:1k", "fixed:1024"),
        ] {
            assert_eq!(text.parse::<FramingPair>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn errors_name_the_part_that_is_wrong() {
        for (text, message) in [
            ("lines", "invalid framing lines: expected chunk, line, crlf"),
            ("", "invalid framing \"\": expected chunk, line, crlf"),
            ("a/b/c", "invalid framing a: expected chunk"),
            ("line/b", "invalid framing b: expected chunk"),
            ("line:5", "invalid framing line:5: expected chunk"),
            (
                "line/",
                "invalid framing line/: expected a framing on both sides",
            ),
            (
                "/line",
                "invalid framing /line: expected a framing on both sides",
            ),
            (
                "delim:",
                "invalid delimiter in delim:: expected hexadecimal bytes, for example delim:0d0a",
            ),
            (
                "delim:0",
                "invalid delimiter in delim:0: expected hexadecimal bytes",
            ),
            (
                "delim:zz",
                "invalid delimiter in delim:zz: expected hexadecimal bytes",
            ),
            (
                "fixed:0",
                "invalid framing fixed:0: the length must be at least 1",
            ),
            (
                "fixed:",
                "invalid length in fixed:: expected bytes from 1 to 4294967295",
            ),
            (
                "fixed:-1",
                "invalid length in fixed:-1: expected bytes from 1",
            ),
            (
                "fixed:4G",
                "invalid length in fixed:4G: expected bytes from 1",
            ),
        ] {
            let error = text.parse::<FramingPair>().unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
