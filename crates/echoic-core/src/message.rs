//! What was heard and what is said: a [`Run`] of messages in, [`Replies`] out.
//!
//! A run is what one read completed, usually one message. Services are handed runs, not messages, so that
//! sixteen pipelined lines cost one call, one write and one record. Nothing here owns bytes it could borrow:
//! a run points into the buffer that was read into, and `Replies` is one growing buffer used again and again.

use std::mem;

use crate::{
    framing::{End, FramingPair, ReplyTooLong, Span},
    service::{InPlace, Reply},
};

/// The messages that one read completed, in order.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
    first: u64,
}

/// One message of a run.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its number in the conversation; the first is 0.
    pub index: u64,
    /// As it came, with header or terminator.
    pub raw: &'a [u8],
    /// The part that is answered.
    pub body: &'a [u8],
    /// What ended it, if anything did but the stream's end or its own length.
    pub terminator: &'a [u8],
    /// What announced it.
    pub header: &'a [u8],
}

impl<'a> Message<'a> {
    /// How a reply to it ends.
    pub fn end(&self, framing: FramingPair) -> End<'a> {
        let FramingPair { inbound, outbound } = framing;
        if inbound == outbound {
            return End::Like(self.terminator);
        }
        let unterminated = self.terminator.is_empty() && inbound.terminator().is_some();
        if unterminated {
            End::Stream
        } else {
            End::Whole
        }
    }
}

impl<'a> Run<'a> {
    /// The messages that `spans` mark in `bytes`; `first` is the number of the first of them.
    pub fn new(bytes: &'a [u8], spans: &'a [Span], first: u64) -> Self {
        Self {
            bytes,
            spans,
            first,
        }
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The number of the first message in the conversation, from 0.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The messages, in the order in which they came.
    pub fn messages(&self) -> impl Iterator<Item = Message<'a>> + use<'a> {
        let Self {
            bytes,
            spans,
            first,
        } = *self;
        spans.iter().zip(first..).map(move |(span, index)| Message {
            index,
            raw: &bytes[span.start as usize..span.end as usize],
            body: &bytes[span.body_start as usize..span.body_end as usize],
            header: &bytes[span.start as usize..span.body_start as usize],
            terminator: &bytes[span.body_end as usize..span.end as usize],
        })
    }

    /// All of it as it came: the messages of a run lie one behind the other.
    pub fn raw(&self) -> &'a [u8] {
        match (self.spans.first(), self.spans.last()) {
            (Some(first), Some(last)) => &self.bytes[first.start as usize..last.end as usize],
            _ => &[],
        }
    }

    /// Where its messages are in the buffer it points into.
    pub fn spans(&self) -> &'a [Span] {
        self.spans
    }

    /// Length of each message as it came.
    pub fn lengths(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.spans.iter().map(|span| span.end - span.start)
    }
}

/// What a service says to a run, already as it goes on the wire.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// Where the reply to each message of the run ends in `bytes`.
    ends: Vec<u32>,
    framing: FramingPair,
    too_long: Option<ReplyTooLong>,
}

impl Replies {
    /// Empties it for the next run, under the framings of the conversation.
    pub fn clear(&mut self, framing: FramingPair) {
        self.bytes.clear();
        self.ends.clear();
        self.framing = framing;
        self.too_long = None;
    }

    /// Replies that are on the wire already: `lengths` divides `bytes`; without any they answer no message.
    pub fn set(&mut self, bytes: &[u8], lengths: impl IntoIterator<Item = u32>) {
        self.clear(FramingPair::default());
        self.bytes.extend_from_slice(bytes);
        let ends = lengths.into_iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        self.ends.extend(ends);
    }

    /// Takes the replies out, for a queue; none if there are none.
    pub(crate) fn take(&mut self) -> Option<Reply> {
        let lengths: Vec<u32> = self.lengths().collect();
        self.ends.clear();
        self.too_long = None;
        let bytes = mem::take(&mut self.bytes);
        (!lengths.is_empty() || !bytes.is_empty()).then_some(Reply::Bytes {
            bytes,
            lengths: Some(lengths),
        })
    }

    /// Answers `message` with what `write` appends, and frames it as its message was: a reply copies its message's
    /// terminator, and a last line without one is answered without one.
    ///
    /// Messages are answered in the order of the run, each at most once. A reply that its framing cannot announce, and
    /// those after it, are not said ([`Self::too_long`]).
    pub fn reply(&mut self, message: &Message<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.too_long.is_some() {
            return;
        }
        let framing = self.framing.outbound;
        let start = framing.open(&mut self.bytes);
        write(&mut self.bytes);
        let end = message.end(self.framing);
        match framing.close(&mut self.bytes, start, end) {
            Ok(()) => self.ends.push(self.bytes.len() as u32),
            Err(too_long) => {
                self.bytes.truncate(start);
                self.too_long = Some(too_long);
            }
        }
    }

    /// Answers all messages of `run` at once: copies them and has `transform` change the copy
    /// ([`InlineHandler::in_place`](crate::service::InlineHandler::in_place)). Returns false, and leaves nothing, if it
    /// did not; also where a length stands before a message, or the framings differ.
    pub fn transform(&mut self, run: &Run<'_>, transform: InPlace) -> bool {
        let FramingPair { inbound, outbound } = self.framing;
        if inbound != outbound || inbound.has_length() || !self.ends.is_empty() {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(run.raw());
        if !transform(&mut self.bytes[start..]) {
            self.bytes.truncate(start);
            return false;
        }
        let mut end = start as u32;
        self.ends.extend(run.lengths().map(|len| {
            end += len;
            end
        }));
        true
    }

    /// The first reply that could not be said, if there is one. The conversation cannot go on: its messages after that
    /// would be answered by the wrong replies.
    pub fn too_long(&self) -> Option<ReplyTooLong> {
        self.too_long
    }

    /// Answers the messages of a run of `len` that have no reply yet with nothing at all.
    pub fn silence(&mut self, len: usize) {
        self.ends.resize(len, self.bytes.len() as u32);
    }

    /// Says something that answers no message: a greeting, or what was held back at the end of the stream.
    /// A delimiter is the speaker's to add, a length is put before it. Amid replies it counts as part of the one
    /// before it.
    pub fn say(&mut self, body: &[u8]) {
        self.say_with(|bytes| bytes.extend_from_slice(body));
    }

    /// The same without a copy: `write` appends.
    pub fn say_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        let framing = self.framing.outbound;
        if framing.has_length() {
            framing.open(&mut self.bytes);
            write(&mut self.bytes);
            self.too_long = framing
                .close(&mut self.bytes, start, End::Whole)
                .err()
                .or(self.too_long);
        } else {
            write(&mut self.bytes);
        }
        if let Some(end) = self.ends.last_mut() {
            *end = self.bytes.len() as u32;
        }
    }

    /// Everything said, as it goes on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages of the run have been answered, silence included.
    pub fn answered(&self) -> usize {
        self.ends.len()
    }

    /// How many exchanges a run and these replies make: one a message, and one for what was said where no message
    /// was answered.
    pub fn exchanges(&self, run: &Run<'_>) -> u64 {
        let said_alone = self.ends.is_empty() && !self.bytes.is_empty();
        run.len() as u64 + u64::from(said_alone)
    }

    /// Length of the reply to each answered message.
    pub fn lengths(&self) -> impl Iterator<Item = u32> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.ends.iter().zip(starts).map(|(end, start)| end - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Framing, Splitter};

    #[test]
    fn transformed_replies_equal_replies_one_by_one() {
        let upper: InPlace = |bytes| {
            bytes.make_ascii_uppercase();
            true
        };
        let framing: [(&str, &[u8], bool); 5] = [
            ("line", b"ab\n\ncd\n", true),
            ("crlf", b"ab\r\n\r\nc\nd\r\n", true),
            ("fixed:3", b"abcdef", true),
            ("u8", b"\x02ab\x00\x01c", false),
            ("line/nul", b"ab\n\ncd\n", false),
        ];
        for (frame, bytes, can) in framing {
            let framing: FramingPair = frame.parse().expect("a framing");
            let mut spans = Vec::new();
            Splitter::new(framing.inbound, 9).split(bytes, &mut spans);
            let run = Run::new(bytes, &spans, 0);
            let (mut at_once, mut singly) = (Replies::default(), Replies::default());
            at_once.clear(framing);
            singly.clear(framing);
            assert_eq!(at_once.transform(&run, upper), can, "{frame}");
            if can {
                for message in run.messages() {
                    singly.reply(&message, |out| {
                        out.extend(message.body.to_ascii_uppercase());
                    });
                }
            }
            assert_eq!(at_once.bytes(), singly.bytes(), "{frame}");
            assert!(at_once.lengths().eq(singly.lengths()), "{frame}");
            at_once.clear(framing);
            assert!(!at_once.transform(&run, |_| false), "{frame}");
            assert!(at_once.bytes().is_empty(), "{frame}");
        }
    }

    #[test]
    fn reply_copies_the_terminator_of_its_message() {
        let (bytes, mut spans) = (b"ab\n\ncd", Vec::new());
        let mut splitter = Splitter::new(Framing::Line, 9);
        let split = splitter.split(bytes, &mut spans);
        let run = Run::new(bytes, &spans, 4);
        let mut replies = Replies::default();
        replies.clear(Framing::Line.into());
        for message in run.messages() {
            replies.reply(&message, |out| {
                out.extend(message.body.to_ascii_uppercase());
            });
        }
        assert_eq!(replies.bytes(), b"AB\n\n");
        assert_eq!(replies.lengths().collect::<Vec<_>>(), [3, 1]);
        assert_eq!(run.messages().map(|m| m.index).collect::<Vec<_>>(), [4, 5]);
        assert_eq!((run.raw(), split.consumed), (&b"ab\n\n"[..], 4));

        let (rest, mut last) = (&bytes[split.consumed..], Vec::new());
        splitter.finish(rest, &mut last);
        let run = Run::new(rest, &last, 6);
        replies.clear(Framing::Line.into());
        for message in run.messages() {
            replies.reply(&message, |out| {
                out.extend(message.body.to_ascii_uppercase());
            });
        }
        assert_eq!(replies.bytes(), b"CD");
    }
}
