//! Which bytes are a reply, and to what: what a person at a prompt sees as one.

use std::{collections::VecDeque, time::Duration};

use echoic_core::framing::{Framing, Span, Splitter};
use tokio::time::Instant;

use crate::flow::ends_with_stream;

/// Divides what is heard into what is shown as one, and says what it answers.
///
/// Under a declared framing the oldest unanswered message is answered by the next one heard; under `chunk` a read
/// answers everything sent before it.
#[derive(Debug)]
pub struct Replies {
    splitter: Splitter,
    /// A message that has not ended, no longer than its splitter takes.
    held: Vec<u8>,
    held_since: Option<Instant>,
    unanswered: VecDeque<Instant>,
    last_reply: Option<Instant>,
}

/// Something heard that is shown as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// What it is.
    pub kind: Kind,
    /// As it came.
    pub bytes: &'a [u8],
    /// The same without header and terminator.
    pub body: &'a [u8],
    /// It ended as its framing has it.
    pub whole: bool,
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

/// What goes on for longer without its terminator is shown in pieces, so that a peer without newlines costs no more
/// memory.
const HELD_BYTES_MAX: usize = 64 << 10;

/// The same where the length comes first, and the next message cannot be found without it.
const ANNOUNCED_BYTES_MAX: usize = 64 << 20;

/// Sent things whose time is remembered; the oldest is forgotten first.
const UNANSWERED_MAX: usize = 4096;

impl Replies {
    /// A message that lacks its terminator is shown after this long (a peer that asks `login: ` waits for us), and what comes
    /// within it of a reply still belongs to the reply.
    pub const GAP: Duration = Duration::from_millis(100);

    /// At the start of a conversation.
    pub fn new(framing: Framing) -> Self {
        Self {
            splitter: splitter(framing),
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
        self.splitter = splitter(framing);
    }

    /// So many messages were sent.
    pub fn sent(&mut self, at: Instant, messages: u64) {
        for _ in 0..messages.min(UNANSWERED_MAX as u64) {
            if self.unanswered.len() == UNANSWERED_MAX {
                self.unanswered.pop_front();
            }
            self.unanswered.push_back(at);
        }
    }

    /// Something was heard: `show` is called with each message.
    pub fn heard(&mut self, at: Instant, bytes: &[u8], mut show: impl FnMut(Heard<'_>)) {
        if bytes.is_empty() && self.framing() == Framing::Chunk {
            // A datagram of no bytes: a stream brings none.
            show(Heard {
                kind: self.kind(at),
                bytes,
                body: bytes,
                whole: true,
            });
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut spans: Vec<Span> = Vec::new();
        let split = self.splitter.split(&held, &mut spans);
        for span in spans {
            show(Heard {
                kind: self.kind(at),
                bytes: &held[span.start as usize..span.end as usize],
                body: &held[span.body_start as usize..span.body_end as usize],
                whole: true,
            });
        }
        held.drain(..split.consumed);
        if split.violation.is_some() {
            self.show_unfinished(at, &held, show);
            held.clear();
        }
        self.held_since = (!held.is_empty()).then_some(at);
        self.held = held;
    }

    /// When what is held should be shown although it has not ended. Not before the end of the stream where a length
    /// has said that there is more to come.
    pub fn flush_at(&self) -> Option<Instant> {
        let since = self.held_since.filter(|_| ends_with_stream(self.framing()));
        since.map(|at| at + Self::GAP)
    }

    /// Shows what is held: its time has come, or the stream has ended.
    pub fn flush(&mut self, at: Instant, show: impl FnMut(Heard<'_>)) {
        if let Some(heard_at) = self.held_since.take() {
            let held = std::mem::take(&mut self.held);
            self.show_unfinished(heard_at.min(at), &held, show);
        }
    }

    fn show_unfinished(&mut self, at: Instant, bytes: &[u8], mut show: impl FnMut(Heard<'_>)) {
        show(Heard {
            kind: self.kind(at),
            bytes,
            body: bytes,
            whole: false,
        });
        self.reframe(self.framing());
    }

    fn kind(&mut self, at: Instant) -> Kind {
        let asked = match self.framing() {
            Framing::Chunk => {
                let oldest = self.unanswered.front().copied();
                self.unanswered.clear();
                oldest
            }
            _ => self.unanswered.pop_front(),
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

fn splitter(framing: Framing) -> Splitter {
    let max = if ends_with_stream(framing) {
        HELD_BYTES_MAX
    } else {
        ANNOUNCED_BYTES_MAX
    };
    Splitter::new(framing, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(replies: &mut Replies, at: Instant, bytes: &[u8]) -> Vec<(Kind, String)> {
        let mut seen = Vec::new();
        replies.heard(at, bytes, |heard| {
            seen.push((
                heard.kind,
                String::from_utf8_lossy(heard.bytes).into_owned(),
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
    fn unterminated_prompt_is_shown_after_the_gap() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Line);
        assert!(shown(&mut replies, start, b"login: ").is_empty());
        assert_eq!(replies.flush_at(), Some(start + Replies::GAP));
        let mut seen = Vec::new();
        replies.flush(start + Replies::GAP, |heard| {
            assert!(!heard.whole);
            seen.extend_from_slice(heard.bytes);
        });
        assert_eq!((seen, replies.flush_at()), (b"login: ".to_vec(), None));
    }

    #[test]
    fn chunk_reply_answers_everything_sent_before() {
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
    fn endless_line_is_shown_in_pieces_and_not_buffered() {
        let start = Instant::now();
        let mut replies = Replies::new(Framing::Line);
        let mut seen = 0;
        for _ in 0..1000 {
            replies.heard(start, &[b'x'; 1000], |heard| seen += heard.bytes.len());
            assert!(replies.held.len() <= HELD_BYTES_MAX);
        }
        replies.flush(start, |heard| seen += heard.bytes.len());
        assert_eq!(seen, 1_000_000);
    }

    #[test]
    fn length_prefixed_reply_shows_its_body_when_complete() {
        let start = Instant::now();
        let mut replies = Replies::new("u16be".parse().unwrap());
        replies.sent(start, 1);
        assert!(shown(&mut replies, start, b"\0\x03ab").is_empty());
        assert_eq!(replies.flush_at(), None);
        let mut seen = Vec::new();
        replies.heard(start + ms(300), b"c\0", |heard| {
            assert_eq!(
                (heard.kind, heard.bytes, heard.whole),
                (Kind::Reply(ms(300)), &b"\0\x03abc"[..], true)
            );
            seen.push(heard.body.to_vec());
        });
        assert_eq!(seen, [b"abc"]);
        replies.flush(start + ms(400), |heard| {
            assert_eq!(
                (heard.kind, heard.body, heard.whole),
                (Kind::More, &b"\0"[..], false)
            );
            seen.clear();
        });
        assert!(seen.is_empty());
    }
}
