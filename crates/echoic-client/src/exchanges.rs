//! Which message got which reply, as far as one who calls can tell: what a record of a conversation keeps.
//!
//! Nothing is lost on the way: the requests joined are what was sent, the replies joined what came, byte for byte.
//! Under declared framings the oldest message without a reply gets the next one. Where what came is a `chunk`, a read
//! answers all that was sent before it. A datagram answers the oldest one that has been waiting for no more than
//! [`DATAGRAM_WITHIN`]: one before it was lost, or its reply was.

use std::{collections::VecDeque, mem, time::Duration};

use echoic_core::{
    endpoint::Shape,
    event::Outcome,
    framing::{Framing, FramingPair, Span, Splitter},
};
use tokio::time::Instant;

use crate::observer::WireEvent;

/// A message with its reply; either side may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged<'a> {
    /// When the last byte of the request was sent, or the reply came where there is no request.
    pub at: Instant,
    /// From there to the reply.
    pub latency: Duration,
    /// What became of the request.
    pub outcome: Outcome,
    /// As it went.
    pub request: &'a [u8],
    /// As it came.
    pub reply: &'a [u8],
}

/// Puts together what was sent and what came.
#[derive(Debug)]
pub struct Exchanges {
    datagrams: bool,
    sent: Side,
    heard: Side,
    /// Requests that wait for a reply, the oldest first.
    waiting: VecDeque<Request>,
    waiting_bytes: usize,
    /// Requests after those that were told of without waiting for their replies, and have not had them yet.
    alone: u64,
    /// The last thing said has not been sent in full.
    cut: bool,
}

#[derive(Debug)]
struct Request {
    at: Instant,
    bytes: Vec<u8>,
}

/// One direction, divided.
#[derive(Debug)]
struct Side {
    splitter: Splitter,
    held: Vec<u8>,
    held_at: Option<Instant>,
}

/// Bytes of requests that wait; those that come when there are more are told of at once, and get no reply.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The same as a number.
const WAITING_MAX: usize = 4096;

/// A message longer than this is told of in pieces.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A datagram that came later than this after one that waits is rather the reply to a later one.
const DATAGRAM_WITHIN: Duration = Duration::from_secs(1);

impl Exchanges {
    /// At the start of a conversation.
    pub fn new(shape: Shape, frames: FramingPair) -> Self {
        Self {
            datagrams: shape == Shape::Datagrams,
            sent: Side::new(frames.outbound),
            heard: Side::new(frames.inbound),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            alone: 0,
            cut: false,
        }
    }

    /// Something went over the wire: `tell` is called with each exchange that is complete by it.
    pub fn happened(&mut self, happened: WireEvent<'_>, tell: &mut impl FnMut(Exchanged<'_>)) {
        match happened {
            WireEvent::Sent {
                at,
                bytes,
                complete,
            } => {
                self.cut = !complete;
                for message in self.sent.divide(at, bytes, self.datagrams) {
                    self.asked(at, message, tell);
                }
            }
            WireEvent::Received { at, bytes } => {
                for message in self.heard.divide(at, bytes, self.datagrams) {
                    self.answered(at, &message, tell);
                }
            }
            WireEvent::HalfClosed { .. } => {}
            WireEvent::FramingChanged(frames) => {
                self.flush(tell);
                self.sent = Side::new(frames.outbound);
                self.heard = Side::new(frames.inbound);
            }
        }
    }

    /// The conversation is over: tells what is left.
    pub fn finish(&mut self, tell: &mut impl FnMut(Exchanged<'_>)) {
        self.flush(tell);
        let last = self.waiting.len();
        for (i, Request { at, bytes }) in self.waiting.drain(..).enumerate() {
            tell(Exchanged {
                at,
                latency: Duration::ZERO,
                outcome: if self.cut && i + 1 == last {
                    Outcome::Unsent
                } else {
                    Outcome::Unanswered
                },
                request: &bytes,
                reply: &[],
            });
        }
    }

    /// What has begun and not ended counts as it is.
    fn flush(&mut self, tell: &mut impl FnMut(Exchanged<'_>)) {
        if let Some((at, rest)) = self.sent.rest() {
            self.asked(at, rest, tell);
        }
        if let Some((at, rest)) = self.heard.rest() {
            self.answered(at, &rest, tell);
        }
    }

    fn asked(&mut self, at: Instant, bytes: Vec<u8>, tell: &mut impl FnMut(Exchanged<'_>)) {
        let joins = self.sent.is_chunk() && !self.datagrams;
        let room = self.waiting.len() < WAITING_MAX
            && self.waiting_bytes + bytes.len() <= WAITING_BYTES_MAX;
        match self.waiting.back_mut() {
            // A turn: what is said before a reply comes.
            Some(last) if joins && room => {
                self.waiting_bytes += bytes.len();
                last.bytes.extend_from_slice(&bytes);
                last.at = at;
            }
            Some(_) if joins => {
                for Request { at, bytes } in self.waiting.drain(..) {
                    tell(silence(at, &bytes, Outcome::Ok));
                }
                self.waiting_bytes = bytes.len();
                self.waiting.push_back(Request { at, bytes });
            }
            // In the order in which they were sent, so one that does not wait makes the next ones not wait either.
            Some(_) if !room || self.alone > 0 => {
                self.alone += 1;
                tell(silence(at, &bytes, Outcome::Ok));
            }
            _ => {
                self.waiting_bytes += bytes.len();
                self.waiting.push_back(Request { at, bytes });
            }
        }
    }

    fn answered(&mut self, at: Instant, reply: &[u8], tell: &mut impl FnMut(Exchanged<'_>)) {
        if self.datagrams {
            self.give_up(at, tell);
        }
        let request = if self.heard.is_chunk() && !self.datagrams {
            self.alone = 0;
            let all = self.waiting.drain(..).reduce(|mut all, next| {
                all.bytes.extend_from_slice(&next.bytes);
                all.at = next.at;
                all
            });
            self.waiting_bytes = 0;
            all
        } else {
            self.next()
        };
        let (asked_at, request) = match request {
            Some(Request { at, bytes }) => (at, bytes),
            None => (at, Vec::new()),
        };
        tell(Exchanged {
            at: asked_at,
            latency: at.saturating_duration_since(asked_at),
            outcome: Outcome::Ok,
            request: &request,
            reply,
        });
    }

    fn next(&mut self) -> Option<Request> {
        let next = self.waiting.pop_front();
        match &next {
            Some(request) => self.waiting_bytes -= request.bytes.len(),
            None => self.alone = self.alone.saturating_sub(1),
        }
        next
    }

    /// Datagrams that have waited too long, where a later one may be meant.
    fn give_up(&mut self, now: Instant, tell: &mut impl FnMut(Exchanged<'_>)) {
        while let [first, _, ..] = self.waiting.make_contiguous()
            && now.saturating_duration_since(first.at) > DATAGRAM_WITHIN
        {
            let Some(Request { at, bytes }) = self.next() else {
                break;
            };
            tell(silence(at, &bytes, Outcome::Unanswered));
        }
    }
}

fn silence(at: Instant, request: &[u8], outcome: Outcome) -> Exchanged<'_> {
    Exchanged {
        at,
        latency: Duration::ZERO,
        outcome,
        request,
        reply: &[],
    }
}

impl Side {
    fn new(framing: Framing) -> Self {
        Self {
            splitter: Splitter::new(framing, MESSAGE_BYTES_MAX),
            held: Vec::new(),
            held_at: None,
        }
    }

    fn is_chunk(&self) -> bool {
        self.splitter.framing() == Framing::Chunk
    }

    /// The messages that end in `bytes`, which follow what is held.
    fn divide(&mut self, at: Instant, bytes: &[u8], whole: bool) -> Vec<Vec<u8>> {
        if whole || self.is_chunk() {
            return vec![bytes.to_vec()];
        }
        self.held.extend_from_slice(bytes);
        let mut spans: Vec<Span> = Vec::new();
        let split = self.splitter.split(&self.held, &mut spans);
        let mut messages: Vec<_> = spans
            .iter()
            .map(|span| self.held[span.start as usize..span.end as usize].to_vec())
            .collect();
        self.held.drain(..split.consumed);
        self.held_at = (!self.held.is_empty()).then_some(at);
        if split.violation.is_some() {
            messages.extend(self.rest().map(|(_, rest)| rest));
        }
        messages
    }

    /// What has begun and not ended, and begins anew.
    fn rest(&mut self) -> Option<(Instant, Vec<u8>)> {
        let at = self.held_at.take()?;
        self.splitter = Splitter::new(self.splitter.framing(), MESSAGE_BYTES_MAX);
        Some((at, mem::take(&mut self.held)))
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::framing::oracle;
    use proptest::prelude::*;

    use super::*;

    type Seen = (u64, Outcome, String, String);

    /// What is made of these, each so many milliseconds after the start.
    fn exchanges(shape: Shape, frames: &str, script: &[(u64, &str, &str)]) -> Vec<Seen> {
        let start = Instant::now();
        let mut exchanges = Exchanges::new(shape, frames.parse().unwrap());
        let mut seen = Vec::new();
        let mut tell = |told: Exchanged<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let latency = told.latency.as_millis() as u64;
            seen.push((latency, told.outcome, text(told.request), text(told.reply)));
        };
        for (ms, what, text) in script {
            let (at, bytes) = (start + Duration::from_millis(*ms), text.as_bytes());
            let happened = match *what {
                "said" => WireEvent::Sent {
                    at,
                    bytes,
                    complete: true,
                },
                "cut" => WireEvent::Sent {
                    at,
                    bytes,
                    complete: false,
                },
                _ => WireEvent::Received { at, bytes },
            };
            exchanges.happened(happened, &mut tell);
        }
        exchanges.finish(&mut tell);
        seen
    }

    fn seen(latency: u64, outcome: Outcome, request: &str, reply: &str) -> Seen {
        (latency, outcome, request.into(), reply.into())
    }

    #[test]
    fn line_replies_pair_in_order_and_greeting_has_no_request() {
        let script = [
            (0, "heard", "hi\n"),
            (1, "said", "a\nb\nc"),
            (3, "heard", "A\nB"),
            (5, "heard", "\n"),
        ];
        let expected = [
            seen(0, Outcome::Ok, "", "hi\n"),
            seen(2, Outcome::Ok, "a\n", "A\n"),
            seen(4, Outcome::Ok, "b\n", "B\n"),
            seen(0, Outcome::Unanswered, "c", ""),
        ];
        assert_eq!(exchanges(Shape::Stream, "line", &script), expected);
    }

    #[test]
    fn chunk_reply_answers_the_preceding_requests() {
        let script = [
            (0, "said", "a"),
            (1, "said", "b"),
            (2, "heard", "AB"),
            (9, "heard", "!"),
            (10, "cut", "c"),
        ];
        let expected = [
            seen(1, Outcome::Ok, "ab", "AB"),
            seen(0, Outcome::Ok, "", "!"),
            seen(0, Outcome::Unsent, "c", ""),
        ];
        assert_eq!(exchanges(Shape::Stream, "chunk", &script), expected);
    }

    #[test]
    fn lost_datagram_does_not_shift_later_replies() {
        let script = [
            (0, "said", "lost"),
            (1500, "said", ""),
            (1501, "heard", ""),
            (1600, "said", "a"),
            (1600, "said", "b"),
            (1601, "heard", "A"),
            (1602, "heard", "B"),
        ];
        let expected = [
            seen(0, Outcome::Unanswered, "lost", ""),
            seen(1, Outcome::Ok, "", ""),
            seen(1, Outcome::Ok, "a", "A"),
            seen(2, Outcome::Ok, "b", "B"),
        ];
        assert_eq!(exchanges(Shape::Datagrams, "chunk", &script), expected);
    }

    #[test]
    fn pending_requests_are_bounded_and_pairing_continues() {
        let line = "x".repeat(WAITING_BYTES_MAX / 4 - 1) + "\n";
        let mut script = vec![(0, "said", line.as_str()); 6];
        script.extend([(1, "heard", "R\n"); 6]);
        script.extend([(2, "said", "last\n"), (3, "heard", "LAST\n")]);
        let told = exchanges(Shape::Stream, "line", &script);
        let alone: Vec<_> = told.iter().map(|seen| seen.3.is_empty()).collect();
        assert_eq!(alone[..2], [true, true], "two found no room");
        assert!(alone[2..].iter().all(|alone| !alone));
        let without: Vec<_> = told.iter().map(|seen| seen.2.is_empty()).collect();
        assert_eq!(
            without[2..],
            [false, false, false, false, true, true, false]
        );
        assert_eq!(told.last(), Some(&seen(1, Outcome::Ok, "last\n", "LAST\n")));
    }

    proptest! {
        #[test]
        fn exchanges_lose_no_bytes_for_any_cut(
            said in prop::sample::select(vec!["chunk", "line", "crlf", "u8", "netstring", "fixed:3"]),
            heard in prop::sample::select(vec!["chunk", "line", "nul", "u16be", "varint"]),
            pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(
                prop_oneof![Just(b'\n'), Just(0), any::<u8>()], 1..20)), 0..30),
        ) {
            let frames: FramingPair = format!("{heard}/{said}").parse().unwrap();
            let at = Instant::now();
            let mut exchanges = Exchanges::new(Shape::Stream, frames);
            let (mut requests, mut replies) = (Vec::new(), Vec::new());
            let mut tell = |told: Exchanged<'_>| {
                requests.extend_from_slice(told.request);
                replies.extend_from_slice(told.reply);
            };
            let (mut sent, mut came) = (Vec::new(), Vec::new());
            for (is_ours, bytes) in &pieces {
                if *is_ours {
                    sent.extend_from_slice(bytes);
                    exchanges.happened(WireEvent::Sent { at, bytes, complete: true }, &mut tell);
                } else {
                    came.extend_from_slice(bytes);
                    exchanges.happened(WireEvent::Received { at, bytes }, &mut tell);
                }
            }
            exchanges.finish(&mut tell);
            prop_assert_eq!(requests, sent);
            prop_assert_eq!(replies, came);
        }

        #[test]
        fn each_line_gets_its_own_reply(
            data in prop::collection::vec(prop_oneof![Just(b'\n'), b'a'..b'd'], 0..100),
            addresses in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            let at = Instant::now();
            let mut exchanges = Exchanges::new(Shape::Stream, Framing::Line.into());
            let mut told = 0;
            let mut tell = |exchanged: Exchanged<'_>| {
                assert_eq!(exchanged.request, exchanged.reply);
                told += 1;
            };
            for bytes in oracle::cut(&data, &addresses) {
                exchanges.happened(WireEvent::Sent { at, bytes, complete: true }, &mut tell);
            }
            exchanges.happened(WireEvent::Received { at, bytes: &data }, &mut tell);
            exchanges.finish(&mut tell);
            let (messages, _) = oracle::messages(Framing::Line, 1 << 20, &[&data]);
            prop_assert_eq!(told, messages.len());
        }
    }
}
