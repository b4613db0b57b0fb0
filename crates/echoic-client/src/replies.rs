//! Divides received bytes into messages for display, and matches replies to the messages they answer.

use std::{collections::VecDeque, time::Duration};

use echoic_core::framing::{Framing, Span, Splitter};
use tokio::time::Instant;

use crate::flow::ends_with_stream;

/// Divides received bytes into messages and classifies each as a reply or not.
///
/// Under a declared framing, the next message received answers the oldest unanswered message. Under `chunk`, one read
/// answers all messages sent before it.
#[derive(Debug)]
pub struct Replies {
    splitter: Splitter,
    /// Bytes of the incomplete message; the splitter limits its length.
    pending: Vec<u8>,
    pending_since: Option<Instant>,
    unanswered: VecDeque<Instant>,
    last_reply: Option<Instant>,
}

/// A received message, or a part of one that is displayed on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedMessage<'a> {
    /// Whether it is a reply.
    pub kind: ReplyKind,
    /// The bytes as received.
    pub bytes: &'a [u8],
    /// The bytes without header and terminator.
    pub body: &'a [u8],
    /// The message is complete under its framing.
    pub complete: bool,
}

/// How a received message relates to the messages sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// A reply to a message sent this long before.
    Reply(Duration),
    /// A continuation of the last reply: no reply is due, and it arrived within [`Replies::GAP`] of the last one.
    Continuation,
    /// No reply was due.
    Unsolicited,
}

/// Longest message under a framing with terminators. Longer ones are displayed in parts, so that a peer that sends no
/// terminator uses no more memory.
const UNTERMINATED_BYTES_MAX: usize = 64 << 10;

/// Longest length-prefixed message, without which the next message cannot be found.
const PREFIXED_BYTES_MAX: usize = 64 << 20;

/// Maximum number of unanswered messages whose send time is stored; the oldest is dropped first.
const UNANSWERED_MAX: usize = 4096;

impl Replies {
    /// Time after which an unterminated message is displayed (a peer that prompts `login: ` waits for us), and within which
    /// more data after a reply still belongs to that reply.
    pub const GAP: Duration = Duration::from_millis(100);

    /// Creates the state for the start of a conversation.
    pub fn new(framing: Framing) -> Self {
        Self {
            splitter: splitter(framing),
            pending: Vec::new(),
            pending_since: None,
            unanswered: VecDeque::new(),
            last_reply: None,
        }
    }

    /// Returns the current framing.
    pub fn framing(&self) -> Framing {
        self.splitter.framing()
    }

    /// Divides by `framing` from here on. Call [`Self::flush`] first to display pending bytes.
    pub fn set_framing(&mut self, framing: Framing) {
        self.splitter = splitter(framing);
    }

    /// Records that `messages` were sent at `at`.
    pub fn add_sent(&mut self, at: Instant, messages: u64) {
        for _ in 0..messages.min(UNANSWERED_MAX as u64) {
            if self.unanswered.len() == UNANSWERED_MAX {
                self.unanswered.pop_front();
            }
            self.unanswered.push_back(at);
        }
    }

    /// Adds the bytes of one read and calls `show` with each complete message.
    pub fn add_received(
        &mut self,
        at: Instant,
        bytes: &[u8],
        mut show: impl FnMut(ReceivedMessage<'_>),
    ) {
        if bytes.is_empty() && self.framing() == Framing::Chunk {
            // An empty datagram; a stream has no empty reads.
            show(ReceivedMessage {
                kind: self.kind(at),
                bytes,
                body: bytes,
                complete: true,
            });
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut spans: Vec<Span> = Vec::new();
        let split = self.splitter.split(&pending, &mut spans);
        for span in spans {
            show(ReceivedMessage {
                kind: self.kind(at),
                bytes: &pending[span.start as usize..span.end as usize],
                body: &pending[span.body_start as usize..span.body_end as usize],
                complete: true,
            });
        }
        pending.drain(..split.consumed);
        if split.violation.is_some() {
            self.show_incomplete(at, &pending, show);
            pending.clear();
        }
        self.pending_since = (!pending.is_empty()).then_some(at);
        self.pending = pending;
    }

    /// Returns when pending bytes should be displayed although their message is incomplete. `None` under a framing with
    /// lengths, where the rest is known to follow unless the stream ends.
    pub fn flush_deadline(&self) -> Option<Instant> {
        let since = self
            .pending_since
            .filter(|_| ends_with_stream(self.framing()));
        since.map(|at| at + Self::GAP)
    }

    /// Calls `show` with the pending bytes: [`Self::flush_deadline`] has passed, or the stream has ended.
    pub fn flush(&mut self, at: Instant, show: impl FnMut(ReceivedMessage<'_>)) {
        if let Some(received_at) = self.pending_since.take() {
            let pending = std::mem::take(&mut self.pending);
            self.show_incomplete(received_at.min(at), &pending, show);
        }
    }

    fn show_incomplete(
        &mut self,
        at: Instant,
        bytes: &[u8],
        mut show: impl FnMut(ReceivedMessage<'_>),
    ) {
        show(ReceivedMessage {
            kind: self.kind(at),
            bytes,
            body: bytes,
            complete: false,
        });
        self.set_framing(self.framing());
    }

    fn kind(&mut self, at: Instant) -> ReplyKind {
        let sent_at = match self.framing() {
            Framing::Chunk => {
                let oldest = self.unanswered.front().copied();
                self.unanswered.clear();
                oldest
            }
            _ => self.unanswered.pop_front(),
        };
        if let Some(sent_at) = sent_at {
            self.last_reply = Some(at);
            return ReplyKind::Reply(at.saturating_duration_since(sent_at));
        }
        match self.last_reply {
            Some(last) if at.saturating_duration_since(last) <= Self::GAP => {
                self.last_reply = Some(at);
                ReplyKind::Continuation
            }
            _ => ReplyKind::Unsolicited,
        }
    }
}

fn splitter(framing: Framing) -> Splitter {
    let max = if ends_with_stream(framing) {
        UNTERMINATED_BYTES_MAX
    } else {
        PREFIXED_BYTES_MAX
    };
    Splitter::new(framing, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(replies: &mut Replies, at: Instant, bytes: &[u8]) -> Vec<(ReplyKind, String)> {
        let mut seen = Vec::new();
        replies.add_received(at, bytes, |message| {
            seen.push((
                message.kind,
                String::from_utf8_lossy(message.bytes).into_owned(),
            ));
        });
        seen
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn greeting_is_unsolicited_and_reply_has_a_latency() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Line);
        assert_eq!(
            received(&mut replies, start, b"hi\n"),
            [(ReplyKind::Unsolicited, "hi\n".into())]
        );
        replies.add_sent(start + ms(5), 2);
        assert_eq!(
            received(&mut replies, start + ms(7), b"A\nB\nC\nD"),
            [
                (ReplyKind::Reply(ms(2)), "A\n".into()),
                (ReplyKind::Reply(ms(2)), "B\n".into()),
                (ReplyKind::Continuation, "C\n".into()),
            ]
        );
        assert_eq!(
            received(&mut replies, start + ms(1000), b"\n"),
            [(ReplyKind::Unsolicited, "D\n".into())]
        );
    }

    #[test]
    fn unterminated_prompt_is_shown_after_the_gap() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Line);
        assert!(received(&mut replies, start, b"login: ").is_empty());
        assert_eq!(replies.flush_deadline(), Some(start + Replies::GAP));
        let mut seen = Vec::new();
        replies.flush(start + Replies::GAP, |message| {
            assert!(!message.complete);
            seen.extend_from_slice(message.bytes);
        });
        assert_eq!(
            (seen, replies.flush_deadline()),
            (b"login: ".to_vec(), None)
        );
    }

    #[test]
    fn chunk_reply_answers_everything_sent_before() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Chunk);
        replies.add_sent(start, 1);
        replies.add_sent(start + ms(1), 1);
        assert_eq!(
            received(&mut replies, start + ms(3), b"x\ny"),
            [(ReplyKind::Reply(ms(3)), "x\ny".into())]
        );
        assert_eq!(
            received(&mut replies, start + ms(500), b"z"),
            [(ReplyKind::Unsolicited, "z".into())]
        );
    }

    #[test]
    fn endless_line_is_shown_in_pieces_and_not_buffered() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Line);
        let mut seen = 0;
        for _ in 0..1000 {
            replies.add_received(start, &[b'x'; 1000], |message| seen += message.bytes.len());
            assert!(replies.pending.len() <= UNTERMINATED_BYTES_MAX);
        }
        replies.flush(start, |message| seen += message.bytes.len());
        assert_eq!(seen, 1_000_000);
    }

    #[test]
    fn length_prefixed_reply_shows_its_body_when_complete() {
        let start = Instant::now();
        let mut replies = Replies::new("u16be".parse().unwrap());
        replies.add_sent(start, 1);
        assert!(received(&mut replies, start, b"\0\x03ab").is_empty());
        assert_eq!(replies.flush_deadline(), None);
        let mut seen = Vec::new();
        replies.add_received(start + ms(300), b"c\0", |message| {
            assert_eq!(
                (message.kind, message.bytes, message.complete),
                (ReplyKind::Reply(ms(300)), &b"\0\x03abc"[..], true)
            );
            seen.push(message.body.to_vec());
        });
        assert_eq!(seen, [b"abc"]);
        replies.flush(start + ms(400), |message| {
            assert_eq!(
                (message.kind, message.body, message.complete),
                (ReplyKind::Continuation, &b"\0"[..], false)
            );
            seen.clear();
        });
        assert!(seen.is_empty());
    }
}
