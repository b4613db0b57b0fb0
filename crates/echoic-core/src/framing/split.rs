//! Splits bytes into messages.

use memchr::{memchr_iter, memmem, memrchr};

use super::{
    Framing,
    head::{Head, Violation, content_length, netstring, prefix, varint},
};

/// The position of one message in the bytes given to [`Splitter::split`]: `start..end` is the whole message,
/// `body_start..body_end` its body; the rest is header and terminator.
///
/// The offsets are `u32`: a buffer holds at most one read and one unfinished message, far less than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte of the message.
    pub start: u32,
    /// First byte of its body.
    pub body_start: u32,
    /// One past the last byte of its body.
    pub body_end: u32,
    /// One past the last byte of the message.
    pub end: u32,
}

/// Result of [`Splitter::split`], beside the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Bytes of finished messages. The caller passes the rest again, followed by the bytes of the next read.
    pub consumed: usize,
    /// Set if the rest cannot become a message.
    pub violation: Option<Violation>,
}

/// Result of [`Splitter::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Messages that end in the bytes.
    pub messages: usize,
    /// Bytes of these messages, as [`Split::consumed`].
    pub consumed: usize,
}

/// Splits one direction of one conversation into messages.
#[derive(Clone, Debug)]
pub struct Splitter {
    framing: Framing,
    body_bytes_max: usize,
    /// Bytes of the unfinished message that were searched and hold no terminator. A long line that arrives in many
    /// reads is searched once, not once per read.
    scanned: usize,
}

impl Splitter {
    /// Returns a splitter for the start of a stream. `body_bytes_max` limits the body of a message.
    pub fn new(framing: Framing, body_bytes_max: usize) -> Self {
        Self {
            framing,
            body_bytes_max,
            scanned: 0,
        }
    }

    /// Returns the framing.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Appends to `spans` every message that ends in `bytes`: the bytes not consumed before, followed by new ones.
    /// Never allocates by the length in a header, which a peer may choose freely.
    pub fn split(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> Split {
        match &self.framing {
            Framing::Chunk => {
                spans.extend(whole(bytes.len()));
                Split {
                    consumed: bytes.len(),
                    violation: None,
                }
            }
            Framing::Line => self.split_at_byte(b'\n', bytes, spans),
            Framing::Nul => self.split_at_byte(0, bytes, spans),
            Framing::Crlf => self.split_at(b"\r\n", bytes, spans),
            Framing::Delim(delimiter) => match *delimiter.bytes() {
                [byte] => self.split_at_byte(byte, bytes, spans),
                ref terminator => self.split_at(terminator, bytes, spans),
            },
            Framing::Fixed(len) => {
                let len = len.get() as usize;
                self.split_by_length(bytes, spans, |_| Some((0, len)))
            }
            Framing::Prefix(width) => {
                let width = *width;
                self.split_by_length(bytes, spans, |rest| {
                    Some((width.bytes(), prefix(width, rest)?))
                })
            }
            Framing::Varint => self.split_by_head(bytes, spans, varint),
            Framing::Netstring => self.split_by_head(bytes, spans, netstring),
            Framing::ContentLength => self.split_by_head(bytes, spans, content_length),
        }
    }

    /// Counts the messages that end in `bytes` without their positions, which is much faster for short messages.
    /// Returns `None` and changes nothing if [`Self::split`] must be called: if a length precedes each message, or if
    /// there are enough bytes for a message that is too long.
    #[inline]
    pub fn count(&mut self, bytes: &[u8]) -> Option<Counted> {
        let (framing, max) = (self.framing, self.body_bytes_max);
        match framing {
            Framing::Chunk => Some(Counted {
                messages: usize::from(!bytes.is_empty()),
                consumed: bytes.len(),
            }),
            Framing::Fixed(len) => {
                let len = len.get() as usize;
                (len <= max).then(|| Counted {
                    messages: bytes.len() / len,
                    consumed: bytes.len() / len * len,
                })
            }
            Framing::Line | Framing::Crlf | Framing::Nul | Framing::Delim(_)
                if bytes.len() <= max =>
            {
                Some(match framing.terminator()? {
                    [byte] => self.count_byte(*byte, bytes),
                    terminator => self.count_terminators(terminator, bytes),
                })
            }
            _ => None,
        }
    }

    fn count_byte(&mut self, terminator: u8, bytes: &[u8]) -> Counted {
        let new = &bytes[self.scanned..];
        let consumed = memrchr(terminator, new).map_or(0, |last| self.scanned + last + 1);
        self.scanned = bytes.len() - consumed;
        Counted {
            messages: count_of_byte(terminator, new),
            consumed,
        }
    }

    fn count_terminators(&mut self, terminator: &[u8], bytes: &[u8]) -> Counted {
        let (mut messages, mut consumed) = (0, 0);
        for end in memmem::find_iter(&bytes[self.scanned..], terminator) {
            messages += 1;
            consumed = self.scanned + end + terminator.len();
        }
        self.scanned = scanned_of(terminator.len(), bytes.len() - consumed);
        Counted { messages, consumed }
    }

    /// Ends the stream with `bytes` unfinished. Where messages are delimited, they are the last message, without a
    /// terminator; where messages have a length, they are not a message. Returns whether the stream ended inside a
    /// message of the second kind.
    pub fn end_of_input(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> bool {
        self.scanned = 0;
        let ends_with_stream = !matches!(
            self.framing,
            Framing::Fixed(_)
                | Framing::Prefix(_)
                | Framing::Varint
                | Framing::Netstring
                | Framing::ContentLength
        );
        if ends_with_stream {
            spans.extend(whole(bytes.len()));
        }
        !ends_with_stream && !bytes.is_empty()
    }

    fn split_at_byte(&mut self, terminator: u8, bytes: &[u8], spans: &mut Vec<Span>) -> Split {
        let scanned = self.scanned;
        let ends = memchr_iter(terminator, &bytes[scanned..]).map(|at| at + scanned);
        self.push_terminated(ends, 1, bytes.len(), spans)
    }

    fn split_at(&mut self, terminator: &[u8], bytes: &[u8], spans: &mut Vec<Span>) -> Split {
        let scanned = self.scanned;
        let ends = memmem::find_iter(&bytes[scanned..], terminator).map(|at| at + scanned);
        self.push_terminated(ends, terminator.len(), bytes.len(), spans)
    }

    /// Appends the messages whose bodies end at `ends`, each followed by a terminator of `width` bytes.
    fn push_terminated(
        &mut self,
        ends: impl Iterator<Item = usize>,
        width: usize,
        len: usize,
        spans: &mut Vec<Span>,
    ) -> Split {
        let max = self.body_bytes_max;
        let mut start = 0;
        for end in ends {
            if end - start > max {
                return Split {
                    consumed: start,
                    violation: Some(Violation::TooLong),
                };
            }
            spans.push(span(start, 0, end - start, width));
            start = end + width;
        }
        self.scanned = scanned_of(width, len - start);
        Split {
            consumed: start,
            violation: (self.scanned > max).then_some(Violation::TooLong),
        }
    }

    /// Appends messages whose lengths of header and body `lengths` decodes from their first bytes.
    fn split_by_length(
        &mut self,
        bytes: &[u8],
        spans: &mut Vec<Span>,
        lengths: impl Fn(&[u8]) -> Option<(usize, usize)>,
    ) -> Split {
        let max = self.body_bytes_max;
        self.split_by_head(bytes, spans, |rest, _| match lengths(rest) {
            Some((_, body)) if body > max => Head::Violation(Violation::TooLong),
            Some((header, body)) if rest.len() >= header + body => Head::Message(header, body, 0),
            _ => Head::Unfinished,
        })
    }

    /// Appends messages that `head` decodes one after the other.
    fn split_by_head(
        &mut self,
        bytes: &[u8],
        spans: &mut Vec<Span>,
        head: impl Fn(&[u8], usize) -> Head,
    ) -> Split {
        let mut start = 0;
        loop {
            if start == bytes.len() {
                return Split {
                    consumed: start,
                    violation: None,
                };
            }
            match head(&bytes[start..], self.body_bytes_max) {
                Head::Message(header, body, terminator) => {
                    spans.push(span(start, header, body, terminator));
                    start += header + body + terminator;
                }
                Head::Unfinished => {
                    return Split {
                        consumed: start,
                        violation: None,
                    };
                }
                Head::Violation(violation) => {
                    return Split {
                        consumed: start,
                        violation: Some(violation),
                    };
                }
            }
        }
    }
}

/// Counts `byte` in `bytes`. Up to 255 bytes, this loop takes less time than memchr needs to set up its search.
fn count_of_byte(byte: u8, bytes: &[u8]) -> usize {
    if bytes.len() > usize::from(u8::MAX) {
        return memchr_iter(byte, bytes).count();
    }
    let equal = bytes.iter().map(|other| u8::from(*other == byte));
    equal.fold(0_u8, u8::wrapping_add).into()
}

/// Returns how many of `rest` bytes need not be searched again. The last `width - 1` may begin a terminator of `width`
/// bytes, so they are searched again and do not count as body yet.
fn scanned_of(width: usize, rest: usize) -> usize {
    rest.saturating_sub(width - 1)
}

fn span(start: usize, header: usize, body: usize, terminator: usize) -> Span {
    let body_start = start + header;
    let body_end = body_start + body;
    Span {
        start: start as u32,
        body_start: body_start as u32,
        body_end: body_end as u32,
        end: (body_end + terminator) as u32,
    }
}

/// Returns all `len` bytes as one message without terminator; `None` if `len` is 0.
fn whole(len: usize) -> Option<Span> {
    (len > 0).then(|| span(0, 0, len, 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framing::{Delimiter, oracle};

    fn found(framing: &str, max: usize, pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let (found, limited) = oracle::messages(framing.parse().unwrap(), max, pieces);
        (
            found
                .into_iter()
                .map(|m| String::from_utf8_lossy(&m).into_owned())
                .collect(),
            limited,
        )
    }

    fn strings(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn empty_line_is_a_message_and_last_line_needs_no_newline() {
        assert_eq!(
            found("line", 9, &[b"a\n\nbc"]),
            (strings(&["a\n", "\n", "bc"]), false)
        );
    }

    #[test]
    fn two_byte_terminator_may_be_split_across_reads() {
        assert_eq!(
            found("crlf", 9, &[b"a\nb\r", b"\nc\r\n"]),
            (strings(&["a\nb\r\n", "c\r\n"]), false)
        );
        assert_eq!(
            found("delim:2d2d3e", 9, &[b"a-", b"-", b">--->"]),
            (strings(&["a-->", "--->"]), false)
        );
    }

    #[test]
    fn message_limit_applies_exactly_to_the_body() {
        assert_eq!(found("line", 3, &[b"abc\n"]), (strings(&["abc\n"]), false));
        assert_eq!(
            found("line", 3, &[b"ok\nabcd\n"]),
            (strings(&["ok\n"]), true)
        );
        assert_eq!(
            found("line", 3, &[b"ok\nab", b"cd"]),
            (strings(&["ok\n"]), true)
        );
        assert_eq!(
            found("crlf", 3, &[b"abc\r", b"\n"]),
            (strings(&["abc\r\n"]), false)
        );
        assert_eq!(
            found("u8", 3, &[b"\x03abc"]),
            (strings(&["\x03abc"]), false)
        );
        assert_eq!(found("u8", 3, &[b"\x04"]), (vec![], true));
        assert_eq!(found("fixed:4", 3, &[b"a"]), (vec![], true));
    }

    #[test]
    fn invalid_lengths_are_rejected_at_once() {
        for (framing, head) in [
            ("u32be", &b"\xff\xff\xff\xff"[..]),
            ("u32le", b"\xff\xff\xff\x7f"),
            ("varint", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            ("varint", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
            ("netstring", b"9999999999:"),
            ("netstring", b"00:"),
            ("netstring", b"-1:"),
            ("netstring", b":"),
            ("netstring", b"1:ab"),
            (
                "content-length",
                b"Content-Length: 99999999999999999999\r\n\r\n",
            ),
            ("content-length", b"Content-Length: -1\r\n\r\n"),
            (
                "content-length",
                b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ),
            ("content-length", b"Nothing: 1\r\n\r\n"),
        ] {
            assert_eq!(
                found(framing, 1 << 20, &[head]),
                (vec![], true),
                "{framing} {head:?}"
            );
        }
    }

    #[test]
    fn message_body_excludes_header_and_terminator() {
        let mut spans = Vec::new();
        let split = Splitter::new(Framing::Netstring, 9).split(b"2:ab,1:", &mut spans);
        assert_eq!(
            spans,
            [Span {
                start: 0,
                body_start: 2,
                body_end: 4,
                end: 5
            }]
        );
        assert_eq!(
            split,
            Split {
                consumed: 5,
                violation: None
            }
        );
    }

    #[test]
    fn message_shorter_than_its_length_is_incomplete() {
        for framing in ["fixed:4", "u16be", "varint", "netstring", "content-length"] {
            let mut splitter = Splitter::new(framing.parse().unwrap(), 9);
            assert!(splitter.end_of_input(b"\x01", &mut Vec::new()), "{framing}");
            assert!(!splitter.end_of_input(b"", &mut Vec::new()), "{framing}");
        }
    }

    fn declared() -> impl Strategy<Value = Framing> {
        let words = [
            "line",
            "crlf",
            "nul",
            "u8",
            "u16be",
            "u16le",
            "u32be",
            "u32le",
            "varint",
            "netstring",
            "content-length",
        ];
        prop_oneof![
            (0..words.len()).prop_map(move |i| words[i].parse().unwrap()),
            prop::collection::vec(0_u8..3, 1..4)
                .prop_map(|bytes| Framing::Delim(Delimiter::new(&bytes).unwrap())),
            (1_u32..9).prop_map(|len| format!("fixed:{len}").parse().unwrap()),
        ]
    }

    /// For each framing: the longest length, the first beyond it, and an incomplete one.
    #[test]
    fn length_digits_are_limited_exactly() {
        use Violation::{Malformed, TooLong};
        let violation_of = |framing: &str, bytes: &[u8]| {
            let mut splitter = Splitter::new(framing.parse().unwrap(), 9);
            let mut spans = Vec::new();
            let split = splitter.split(bytes, &mut spans);
            assert_eq!((spans.len(), split.consumed), (0, 0), "{bytes:x?}");
            split.violation
        };
        let groups = |last: u8| [&[0x80; 9][..], &[last]].concat();
        assert_eq!(violation_of("varint", &groups(1)), Some(TooLong), "2^63");
        assert_eq!(violation_of("varint", &groups(2)), Some(Malformed), "2^64");
        assert_eq!(violation_of("varint", &[0x80; 9]), None);
        assert_eq!(violation_of("varint", &[0x80; 10]), Some(Malformed));
        assert_eq!(violation_of("varint", &[0x80; 11]), Some(Malformed));
        assert_eq!(violation_of("netstring", b"1234567890:"), Some(TooLong));
        assert_eq!(violation_of("netstring", b"12345678901:"), Some(Malformed));
        assert_eq!(violation_of("netstring", b"1234567890"), None);
        assert_eq!(violation_of("netstring", b"12345678901"), Some(Malformed));
        let signed = b"Content-Length: +1\r\n\r\n";
        assert_eq!(violation_of("content-length", signed), Some(Malformed));
        let endless = vec![b'h'; 8 << 10];
        assert_eq!(violation_of("content-length", &endless[1..]), None);
        assert_eq!(violation_of("content-length", &endless), Some(Malformed));
        // A length of 0 in ten groups is valid.
        let mut spans = Vec::new();
        let mut splitter = Splitter::new(Framing::Varint, 9);
        assert_eq!(splitter.split(&groups(0), &mut spans).consumed, 10);
    }

    #[test]
    fn messages_are_only_counted_if_none_can_be_too_long() {
        let count = |framing: &str, max: usize, bytes: &[u8]| {
            let mut splitter = Splitter::new(framing.parse().unwrap(), max);
            splitter
                .count(bytes)
                .map(|counted| (counted.messages, counted.consumed))
        };
        assert_eq!(count("line", 9, b"a\n\nbc"), Some((2, 3)));
        assert_eq!(count("crlf", 9, b"a\r\n\nb\r"), Some((1, 3)));
        assert_eq!(count("nul", 9, b"a\0b\0"), Some((2, 4)));
        assert_eq!(count("delim:2d2d", 9, b"a---b"), Some((1, 3)));
        assert_eq!(count("fixed:2", 2, b"abcde"), Some((2, 4)));
        assert_eq!(count("chunk", 0, b"abc"), Some((1, 3)));
        assert_eq!(count("line", 3, b"a\nb\n"), None, "one may be too long");
        assert_eq!(count("fixed:3", 2, b"ab"), None, "each is too long");
        for framing in ["u8", "varint", "netstring", "content-length"] {
            assert_eq!(count(framing, 9, b"1:a,"), None, "{framing}");
        }
    }

    #[test]
    fn splitter_reports_its_framing() {
        assert_eq!(Splitter::new(Framing::Nul, 9).framing(), Framing::Nul);
    }

    proptest! {
        #[test]
        fn split_does_not_depend_on_read_boundaries(
            framing in declared(),
            data in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b','), b'0'..b'5', 0_u8..5, any::<u8>()], 0..200),
            offsets in prop::collection::vec(any::<usize>(), 0..8),
            max in 0_usize..60,
        ) {
            oracle::check_cuts(framing, max, &data, &offsets);
        }

        #[test]
        fn count_agrees_with_split(
            framing in prop_oneof![declared(), Just(Framing::Chunk)],
            data in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), 0_u8..3, any::<u8>()], 0..200),
            offsets in prop::collection::vec(any::<usize>(), 0..8),
            max in 0_usize..400,
        ) {
            oracle::check_count(framing, max, &oracle::cut(&data, &offsets));
        }

        #[test]
        fn split_reverses_join(
            framing in declared().prop_filter("any length", |framing| !matches!(framing, Framing::Fixed(_))),
            bodies in prop::collection::vec(prop::collection::vec(3_u8.., 0..40), 0..6),
            offsets in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            oracle::check_join_then_split(framing, &bodies, &offsets);
        }

        #[test]
        fn joined_chunks_equal_the_stream(data in prop::collection::vec(any::<u8>(), 0..200), offsets in prop::collection::vec(any::<usize>(), 0..8)) {
            let (found, _) = oracle::messages(Framing::Chunk, 0, &oracle::cut(&data, &offsets));
            prop_assert_eq!(found.concat(), data);
        }
    }
}
