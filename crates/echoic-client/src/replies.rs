//! Which bytes are a reply, and to what: what a person at a prompt sees as one.

use std::{collections::VecDeque, time::Duration};

use echoic_core::framing::{Framing, Span, Splitter};
use tokio::time::Instant;

/// Divides what is heard into what is shown as one, and says what it answers.
///
/// Under `line` the oldest unanswered line is answered by the next line heard; under `chunk` a read answers
/// everything sent before it.
#[derive(Debug)]
pub struct Replies {
    splitter: Splitter,
    /// A line that has not ended, at most [`HELD_BYTES_MAX`].
    held: Vec<u8>,
    held_since: Option<Instant>,
    unanswered: VecDeque<Instant>,
    last_reply: Option<Instant>,
}

/// What something heard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer to something sent this long before.
    Reply(Duration),
    /// More of the answer before it: nothing is owed, and it came right after.
    More,
    /// Nobody asked.
    Unsolicited,
}

/// A line that goes on for longer is shown in pieces, so that a peer without newlines costs no more memory.
const HELD_BYTES_MAX: usize = 64 << 10;

/// Sent things whose time is remembered; the oldest is forgotten first.
const UNANSWERED_MAX: usize = 4096;

impl Replies {
    /// A line that has not ended is shown after this long (a peer that asks `login: ` waits for us), and what comes
    /// within it of a reply still belongs to the reply.
    pub const GAP: Duration = Duration::from_millis(100);

    /// At the start of a conversation.
    pub fn new(framing: Framing) -> Self {
        Self {
            splitter: Splitter::new(framing, HELD_BYTES_MAX),
            held: Vec::new(),
            held_since: None,
            unanswered: VecDeque::new(),
            last_reply: None,
        }
    }

    /// What divides them.
    pub fn framing(&self) -> Framing {
        self.splitter.framing()
    }

    /// From here on `framing` divides. Show what is held first ([`Self::flush`]).
    pub fn reframe(&mut self, framing: Framing) {
        self.splitter = Splitter::new(framing, HELD_BYTES_MAX);
    }

    /// Something with so many line ends was sent.
    pub fn sent(&mut self, at: Instant, lines: u64) {
        let messages = match self.framing() {
            Framing::Chunk => 1,
            Framing::Line => lines.max(1),
        };
        for _ in 0..messages.min(UNANSWERED_MAX as u64) {
            if self.unanswered.len() == UNANSWERED_MAX {
                self.unanswered.pop_front();
            }
            self.unanswered.push_back(at);
        }
    }

    /// Something was heard: `show` is called with each whole message, its terminator included.
    pub fn heard(&mut self, at: Instant, bytes: &[u8], mut show: impl FnMut(Kind, &[u8])) {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let mut spans: Vec<Span> = Vec::new();
        let mut rest = &held[..];
        let split = self.splitter.split(rest, &mut spans);
        for span in spans {
            show(self.kind(at), &rest[span.start as usize..span.end as usize]);
        }
        rest = &rest[split.consumed..];
        if split.violation.is_some() {
            show(self.kind(at), rest);
            self.reframe(self.framing());
            rest = &[];
        }
        self.held = rest.to_vec();
        self.held_since = (!self.held.is_empty()).then_some(at);
    }

    /// When what is held should be shown although it has not ended.
    pub fn flush_at(&self) -> Option<Instant> {
        self.held_since.map(|at| at + Self::GAP)
    }

    /// Shows what is held: its time has come, or the stream has ended.
    pub fn flush(&mut self, at: Instant, mut show: impl FnMut(Kind, &[u8])) {
        if let Some(heard_at) = self.held_since.take() {
            let held = std::mem::take(&mut self.held);
            show(self.kind(heard_at.min(at)), &held);
            self.reframe(self.framing());
        }
    }

    fn kind(&mut self, at: Instant) -> Kind {
        let asked = match self.framing() {
            Framing::Chunk => {
                let oldest = self.unanswered.front().copied();
                self.unanswered.clear();
                oldest
            }
            Framing::Line => self.unanswered.pop_front(),
        };
        if let Some(asked) = asked {
            self.last_reply = Some(at);
            return Kind::Reply(at.saturating_duration_since(asked));
        }
        match self.last_reply {
            Some(last) if at.saturating_duration_since(last) <= Self::GAP => {
                self.last_reply = Some(at);
                Kind::More
            }
            _ => Kind::Unsolicited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(replies: &mut Replies, at: Instant, bytes: &[u8]) -> Vec<(Kind, String)> {
        let mut seen = Vec::new();
        replies.heard(at, bytes, |kind, bytes| {
            seen.push((kind, String::from_utf8_lossy(bytes).into_owned()));
        });
        seen
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_greeting_is_unsolicited_and_a_reply_has_a_latency() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Line);
        assert_eq!(
            shown(&mut replies, start, b"hi\n"),
            [(Kind::Unsolicited, "hi\n".into())]
        );
        replies.sent(start + ms(5), 2);
        assert_eq!(
            shown(&mut replies, start + ms(7), b"A\nB\nC\nD"),
            [
                (Kind::Reply(ms(2)), "A\n".into()),
                (Kind::Reply(ms(2)), "B\n".into()),
                (Kind::More, "C\n".into()),
            ]
        );
        assert_eq!(
            shown(&mut replies, start + ms(1000), b"\n"),
            [(Kind::Unsolicited, "D\n".into())]
        );
    }

    #[test]
    fn a_prompt_without_newline_is_shown_after_the_gap() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Line);
        assert!(shown(&mut replies, start, b"login: ").is_empty());
        assert_eq!(replies.flush_at(), Some(start + Replies::GAP));
        let mut seen = Vec::new();
        replies.flush(start + Replies::GAP, |_, bytes| {
            seen.extend_from_slice(bytes);
        });
        assert_eq!((seen, replies.flush_at()), (b"login: ".to_vec(), None));
    }

    #[test]
    fn a_chunk_answers_all_that_was_sent_before() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Chunk);
        replies.sent(start, 1);
        replies.sent(start + ms(1), 1);
        assert_eq!(
            shown(&mut replies, start + ms(3), b"x\ny"),
            [(Kind::Reply(ms(3)), "x\ny".into())]
        );
        assert_eq!(
            shown(&mut replies, start + ms(500), b"z"),
            [(Kind::Unsolicited, "z".into())]
        );
    }

    #[test]
    fn an_endless_line_is_shown_in_pieces_and_not_kept() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Line);
        let mut seen = 0;
        for _ in 0..1000 {
            replies.heard(start, &[b'x'; 1000], |_, bytes| seen += bytes.len());
            assert!(replies.held.len() <= HELD_BYTES_MAX);
        }
        replies.flush(start, |_, bytes| seen += bytes.len());
        assert_eq!(seen, 1_000_000);
    }
}
