//! What one message is, declared: bytes in, messages out, without I/O.
//!
//! A [`Splitter`] is handed what has arrived and says where messages end. It never sees a socket, so the
//! server, the client, the property tests and the fuzzers all run the same few lines; and however the stream
//! was cut into reads, the messages come out the same (tests below).

use std::{fmt, str::FromStr};

use memchr::memchr_iter;
use thiserror::Error;

/// How a stream is divided into messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A message is what one read returned. The default, because the tutorial's clients send no newline: a
    /// server that waited for one would never answer them. Services then work on the stream.
    #[default]
    Chunk,
    /// A message ends at `\n`. A last line without one is still a message.
    Line,
}

/// No framing of that name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no framing; there are: chunk, line")]
pub struct UnknownFraming(String);

impl Framing {
    /// Whether a message stands for itself. Not so for `chunk`, where a character may go on in the next one.
    pub fn is_declared(self) -> bool {
        !matches!(self, Self::Chunk)
    }
}

impl FromStr for Framing {
    type Err = UnknownFraming;

    fn from_str(text: &str) -> Result<Self, UnknownFraming> {
        match text {
            "chunk" => Ok(Self::Chunk),
            "line" => Ok(Self::Line),
            _ => Err(UnknownFraming(text.to_owned())),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chunk => "chunk",
            Self::Line => "line",
        })
    }
}

/// Where one message lies in the bytes handed to [`Splitter::split`]: `start..end` is all of it as it came,
/// `body` the part a service answers; what remains is header or terminator.
///
/// `u32`, since a buffer is at most a read and one unfinished message, far below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte of the message as it came.
    pub start: u32,
    /// First byte of its body.
    pub body_start: u32,
    /// One past the last byte of its body.
    pub body_end: u32,
    /// One past its last byte as it came.
    pub end: u32,
}

/// What [`Splitter::split`] made of the bytes, beside the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Bytes that belong to finished messages; the rest begins an unfinished one and is to be handed in
    /// again, with what follows it.
    pub consumed: usize,
    /// The unfinished one can no longer be a message.
    pub violation: Option<Violation>,
}

/// Why the bytes after the last message cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Its body is longer than the limit.
    TooLong,
}

/// Divides one direction of one conversation.
#[derive(Clone, Debug)]
pub struct Splitter {
    framing: Framing,
    body_bytes_max: usize,
    /// How much of the unfinished message is known to hold no terminator: a long line that arrives in many
    /// reads is looked at once, not once a read.
    scanned: usize,
}

impl Splitter {
    /// A splitter at the start of a stream.
    pub fn new(framing: Framing, body_bytes_max: usize) -> Self {
        Self {
            framing,
            body_bytes_max,
            scanned: 0,
        }
    }

    /// The framing it divides by.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Appends to `spans` every message that ends in `bytes`, which are the bytes not consumed before followed
    /// by what is new.
    pub fn split(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> Split {
        match self.framing {
            Framing::Chunk => {
                spans.extend(whole(0, bytes.len()));
                Split {
                    consumed: bytes.len(),
                    violation: None,
                }
            }
            Framing::Line => self.lines(bytes, spans),
        }
    }

    /// The stream has ended: the unfinished message is the last one.
    pub fn finish(&mut self, bytes: &[u8], spans: &mut Vec<Span>) {
        self.scanned = 0;
        spans.extend(whole(0, bytes.len()));
    }

    fn lines(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> Split {
        let too_long = |start: usize, end: usize| end - start > self.body_bytes_max;
        let mut start = 0;
        for newline in memchr_iter(b'\n', &bytes[self.scanned..]) {
            let newline = newline + self.scanned;
            if too_long(start, newline) {
                return Split {
                    consumed: start,
                    violation: Some(Violation::TooLong),
                };
            }
            let (body_end, end) = (newline as u32, newline as u32 + 1);
            spans.push(Span {
                start: start as u32,
                body_start: start as u32,
                body_end,
                end,
            });
            start = newline + 1;
        }
        let violation = too_long(start, bytes.len()).then_some(Violation::TooLong);
        self.scanned = bytes.len() - start;
        Split {
            consumed: start,
            violation,
        }
    }
}

/// All of `start..end` as one message without terminator; none if there is nothing.
fn whole(start: usize, end: usize) -> Option<Span> {
    let (start, end) = (start as u32, end as u32);
    (start < end).then_some(Span {
        start,
        body_start: start,
        body_end: end,
        end,
    })
}

/// What the property tests and the fuzzers hold against [`Splitter`].
#[doc(hidden)]
pub mod oracle {
    use super::{Framing, Splitter};

    /// The messages of `pieces` arriving one after the other, and whether the limit was hit.
    pub fn messages(framing: Framing, max: usize, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let mut splitter = Splitter::new(framing, max);
        let (mut held, mut found, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            held.extend_from_slice(piece);
            let split = splitter.split(&held, &mut spans);
            found.extend(
                spans
                    .drain(..)
                    .map(|s| held[s.start as usize..s.end as usize].to_vec()),
            );
            held.drain(..split.consumed);
            if split.violation.is_some() {
                return (found, true);
            }
        }
        splitter.finish(&held, &mut spans);
        found.extend(
            spans
                .drain(..)
                .map(|s| held[s.start as usize..s.end as usize].to_vec()),
        );
        (found, false)
    }

    /// Cuts `data` at the given places (taken modulo its length).
    pub fn cut<'a>(data: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> = places.iter().map(|p| p % (data.len() + 1)).collect();
        places.sort_unstable();
        let mut from = 0;
        let mut pieces: Vec<&[u8]> = Vec::new();
        for place in places {
            pieces.push(&data[from..place]);
            from = place;
        }
        pieces.push(&data[from..]);
        pieces
    }

    /// However it is cut, a declared framing gives the same messages, and they are all of the stream.
    pub fn cuts_change_nothing(framing: Framing, max: usize, data: &[u8], places: &[usize]) {
        let whole = messages(framing, max, &[data]);
        assert_eq!(
            messages(framing, max, &cut(data, places)),
            whole,
            "cut at {places:?}"
        );
        let (found, limited) = whole;
        let joined = found.concat();
        assert!(if limited {
            data.starts_with(&joined)
        } else {
            joined == data
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(max: usize, pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let (found, limited) = oracle::messages(Framing::Line, max, pieces);
        (
            found
                .into_iter()
                .map(|m| String::from_utf8(m).unwrap())
                .collect(),
            limited,
        )
    }

    #[test]
    fn an_empty_line_is_a_message_and_a_last_line_needs_no_newline() {
        assert_eq!(
            lines(9, &[b"a\n\nbc"]),
            (vec!["a\n".into(), "\n".into(), "bc".into()], false)
        );
    }

    #[test]
    fn the_limit_is_on_the_body_and_exact() {
        assert_eq!(lines(3, &[b"abc\n"]), (vec!["abc\n".into()], false));
        assert_eq!(lines(3, &[b"ok\nabcd\n"]), (vec!["ok\n".into()], true));
        assert_eq!(lines(3, &[b"ok\nab", b"cd"]), (vec!["ok\n".into()], true));
    }

    #[test]
    fn a_body_leaves_the_terminator_out() {
        let mut spans = Vec::new();
        let split = Splitter::new(Framing::Line, 9).split(b"ab\nc", &mut spans);
        assert_eq!(
            spans,
            [Span {
                start: 0,
                body_start: 0,
                body_end: 2,
                end: 3
            }]
        );
        assert_eq!(
            split,
            Split {
                consumed: 3,
                violation: None
            }
        );
    }

    proptest! {
        #[test]
        fn the_cut_of_the_stream_changes_nothing(
            data in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..200),
            places in prop::collection::vec(any::<usize>(), 0..8),
            max in 0_usize..60,
        ) {
            oracle::cuts_change_nothing(Framing::Line, max, &data, &places);
        }

        #[test]
        fn chunks_joined_are_the_stream(data in prop::collection::vec(any::<u8>(), 0..200), places in prop::collection::vec(any::<usize>(), 0..8)) {
            let (found, _) = oracle::messages(Framing::Chunk, 0, &oracle::cut(&data, &places));
            prop_assert_eq!(found.concat(), data);
        }
    }
}
