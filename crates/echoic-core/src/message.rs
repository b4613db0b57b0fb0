//! Messages and their replies: a service receives a [`Run`] of messages and writes [`Replies`].
//!
//! A run is the messages that one read completed, usually one. Services receive runs, not single messages, so that
//! sixteen pipelined lines cost one call, one write and one record. A run borrows from the read buffer, and `Replies`
//! is one buffer that is reused, so that no message is allocated or copied.

use std::mem;

use crate::{
    framing::{FramingPair, ReplyEnd, ReplyTooLong, Span},
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
    /// Its number in the conversation, from 0.
    pub index: u64,
    /// The whole message, with header and terminator.
    pub raw: &'a [u8],
    /// The body, without header and terminator.
    pub body: &'a [u8],
    /// The terminator. Empty if the message ended by its length or by the end of the stream.
    pub terminator: &'a [u8],
    /// The header: the length before the body, if its framing has one.
    pub header: &'a [u8],
}

impl<'a> Message<'a> {
    /// Returns how a reply to it must end.
    pub fn reply_end(&self, framing: FramingPair) -> ReplyEnd<'a> {
        let FramingPair { inbound, outbound } = framing;
        if inbound == outbound {
            return ReplyEnd::Like(self.terminator);
        }
        let unterminated = self.terminator.is_empty() && inbound.terminator().is_some();
        if unterminated {
            ReplyEnd::Stream
        } else {
            ReplyEnd::Whole
        }
    }
}

impl<'a> Run<'a> {
    /// Returns a run of the messages at `spans` in `bytes`. `first` is the number of the first in the conversation.
    pub fn new(bytes: &'a [u8], spans: &'a [Span], first: u64) -> Self {
        Self {
            bytes,
            spans,
            first,
        }
    }

    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether it has no messages.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns the number of its first message in the conversation, from 0.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Returns the messages in the order received.
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

    /// Returns the bytes of all messages, which are contiguous, with headers and terminators.
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

    /// Returns the length of each message, with header and terminator.
    pub fn lengths(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.spans.iter().map(|span| span.end - span.start)
    }
}

/// The replies of a service to a run, framed for the wire.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// The end of the reply to each message of the run in `bytes`.
    ends: Vec<u32>,
    framing: FramingPair,
    too_long: Option<ReplyTooLong>,
}

impl Replies {
    /// Clears it for the next run, and sets the framings of the conversation.
    pub fn clear(&mut self, framing: FramingPair) {
        self.bytes.clear();
        self.ends.clear();
        self.framing = framing;
        self.too_long = None;
    }

    /// Replaces the contents by replies that are framed already; `lengths` divides `bytes`. Without lengths they answer no
    /// message.
    pub fn set_framed(&mut self, bytes: &[u8], lengths: impl IntoIterator<Item = u32>) {
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

    /// Adds the reply to `message`: `write` appends its body. The reply ends like its message: it copies the
    /// terminator, and a last line without one gets a reply without one.
    ///
    /// Call it in the order of the run, at most once per message. A reply that is too long for the length field of its
    /// framing is dropped, and so are all after it ([`Self::too_long`]).
    pub fn reply(&mut self, message: &Message<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.too_long.is_some() {
            return;
        }
        let framing = self.framing.outbound;
        let start = framing.open(&mut self.bytes);
        write(&mut self.bytes);
        let end = message.reply_end(self.framing);
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

    /// Returns the first reply that was too long for its framing, if any. The conversation must end then: later replies
    /// would answer the wrong messages.
    pub fn too_long(&self) -> Option<ReplyTooLong> {
        self.too_long
    }

    /// Adds empty replies to the messages of a run of `len` that have none yet.
    pub fn fill_empty(&mut self, len: usize) {
        self.ends.resize(len, self.bytes.len() as u32);
    }

    /// Adds a message that answers none: a greeting, or bytes held until the end of the stream. The caller includes a
    /// delimiter in `body`; a length is added here. After a reply, it counts as a part of that reply.
    pub fn push(&mut self, body: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(body));
    }

    /// Like [`Self::push`] without a copy: `write` appends the body.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        let framing = self.framing.outbound;
        if framing.has_length() {
            framing.open(&mut self.bytes);
            write(&mut self.bytes);
            self.too_long = framing
                .close(&mut self.bytes, start, ReplyEnd::Whole)
                .err()
                .or(self.too_long);
        } else {
            write(&mut self.bytes);
        }
        if let Some(end) = self.ends.last_mut() {
            *end = self.bytes.len() as u32;
        }
    }

    /// Returns all bytes, framed for the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many messages of the run have a reply, empty ones included.
    pub fn answered(&self) -> usize {
        self.ends.len()
    }

    /// Returns how many exchanges the run and these replies are: one per message, and one if there are bytes but no
    /// message was answered.
    pub fn exchanges(&self, run: &Run<'_>) -> u64 {
        let is_unrequested = self.ends.is_empty() && !self.bytes.is_empty();
        run.len() as u64 + u64::from(is_unrequested)
    }

    /// Returns the length of the reply to each answered message.
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
        splitter.end_of_input(rest, &mut last);
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
