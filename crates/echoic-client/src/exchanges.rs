//! The exchanges of a client, for its record: [`Pairing`] over what goes over the wire.
//!
//! No bytes are lost: the requests joined are what was sent, the replies joined what was received. Under declared
//! framings the oldest request without a reply gets the next one. Where replies are a `chunk`, a read answers all that
//! was sent before it. Datagrams have rules of their own (`exchanges/datagrams.rs`).

mod datagrams;

use std::time::Duration;

use echoic_core::{
    endpoint::Shape,
    event::Outcome,
    framing::{Framing, FramingPair},
    left_over::LeftOver,
};
use echoic_recorder::{Divider, Paired, Pairing, PairingRules};
use tokio::time::Instant;

use self::datagrams::Datagrams;
use crate::observer::WireEvent;

/// A message with its reply; either side may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientExchange<'a> {
    /// When the last byte of the request was sent, or the reply came where there is no request.
    pub at: Instant,
    /// Time from `at` to the reply.
    pub latency: Duration,
    /// What became of the request.
    pub outcome: Outcome,
    /// The request as sent.
    pub request: &'a [u8],
    /// The reply as received.
    pub reply: &'a [u8],
}

/// The requests that a client sent, paired with the replies that it received.
#[derive(Debug)]
pub struct Exchanges {
    /// The requests on a datagram socket; then the other fields have no part.
    datagrams: Option<Datagrams>,
    requests: Divider,
    pairing: Pairing,
    /// The last request was not sent in full.
    cut: bool,
}

/// A message longer than this is recorded in pieces.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

impl Exchanges {
    /// At the start of a conversation.
    pub fn new(shape: Shape, framing: FramingPair) -> Self {
        Self {
            datagrams: (shape == Shape::Datagrams).then(Datagrams::default),
            requests: Divider::new(framing.outbound, MESSAGE_BYTES_MAX),
            pairing: Pairing::new(rules(framing)),
            cut: false,
        }
    }

    /// Takes what went over the wire: `record` is called with each exchange that is complete by it.
    pub fn observe(&mut self, event: WireEvent<'_>, record: &mut impl FnMut(ClientExchange<'_>)) {
        if let Some(datagrams) = &mut self.datagrams {
            return match event {
                WireEvent::Sent { at, bytes, .. } => datagrams.sent(at, bytes, record),
                WireEvent::Received { at, bytes } => datagrams.received(at, bytes, record),
                WireEvent::HalfClosed { .. } | WireEvent::FramingChanged(_) => {}
            };
        }
        match event {
            WireEvent::Sent {
                at,
                bytes,
                complete,
            } => {
                self.cut = !complete;
                for message in self.requests.divide(at, bytes) {
                    let record = &mut |paired: Paired<'_>| record(exchanged(&paired));
                    self.pairing.request(at, 1, &message, record);
                }
            }
            WireEvent::Received { at, bytes } => {
                let record = &mut |paired: Paired<'_>| record(exchanged(&paired));
                self.pairing.reply(at, bytes, None, record);
            }
            WireEvent::HalfClosed { .. } => {}
            WireEvent::FramingChanged(framing) => {
                self.flush(record);
                self.requests = Divider::new(framing.outbound, MESSAGE_BYTES_MAX);
                self.pairing.set_rules(rules(framing));
            }
        }
    }

    /// Returns the bytes received that made no message, to be asked before [`Self::finish`].
    pub fn left_over(&self) -> Option<Box<LeftOver>> {
        self.pairing.left_over()
    }

    /// The conversation is over: records what is left.
    pub fn finish(&mut self, record: &mut impl FnMut(ClientExchange<'_>)) {
        if let Some(datagrams) = &mut self.datagrams {
            return datagrams.finish(record);
        }
        self.flush(record);
        let record = &mut |paired: Paired<'_>| record(exchanged(&paired));
        self.pairing.end_of_input(self.cut, record);
    }

    /// Messages that have begun and not ended count as they are.
    fn flush(&mut self, record: &mut impl FnMut(ClientExchange<'_>)) {
        let record = &mut |paired: Paired<'_>| record(exchanged(&paired));
        if let Some((at, rest)) = self.requests.take_rest() {
            self.pairing.request(at, 1, &rest, record);
        }
        self.pairing.flush(record);
    }
}

fn rules(framing: FramingPair) -> PairingRules {
    PairingRules {
        replies: framing.inbound,
        reply_bytes_max: MESSAGE_BYTES_MAX,
        joins_requests: framing.outbound == Framing::Chunk,
        answers_all: framing.inbound == Framing::Chunk,
    }
}

fn exchanged<'a>(paired: &Paired<'a>) -> ClientExchange<'a> {
    ClientExchange {
        at: paired.at,
        latency: paired.latency,
        outcome: paired.outcome,
        request: paired.requests.raw(),
        reply: paired.replies.bytes(),
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
        let mut on_exchange = |exchanged: ClientExchange<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let latency = exchanged.latency.as_millis() as u64;
            seen.push((
                latency,
                exchanged.outcome,
                text(exchanged.request),
                text(exchanged.reply),
            ));
        };
        for (ms, what, text) in script {
            let (at, bytes) = (start + Duration::from_millis(*ms), text.as_bytes());
            let event = match *what {
                "sent" => WireEvent::Sent {
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
            exchanges.observe(event, &mut on_exchange);
        }
        exchanges.finish(&mut on_exchange);
        seen
    }

    fn seen(latency: u64, outcome: Outcome, request: &str, reply: &str) -> Seen {
        (latency, outcome, request.into(), reply.into())
    }

    #[test]
    fn line_replies_pair_in_order_and_greeting_has_no_request() {
        let script = [
            (0, "received", "hi\n"),
            (1, "sent", "a\nb\nc"),
            (3, "received", "A\nB"),
            (5, "received", "\n"),
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
            (0, "sent", "a"),
            (1, "sent", "b"),
            (2, "received", "AB"),
            (9, "received", "!"),
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
        for reply in ["", "by a service of its own"] {
            let script = [
                (0, "sent", "lost"),
                (1500, "sent", ""),
                (1501, "received", reply),
                (1600, "sent", "a"),
                (1600, "sent", "b"),
                (1601, "received", "A"),
                (1602, "received", "B"),
            ];
            let mut exchanged = exchanges(Shape::Datagrams, "chunk", &script);
            exchanged.sort_by(|a, b| a.2.cmp(&b.2));
            let expected = [
                seen(1, Outcome::Ok, "", reply),
                seen(1, Outcome::Ok, "a", "A"),
                seen(2, Outcome::Ok, "b", "B"),
                seen(0, Outcome::Unanswered, "lost", ""),
            ];
            assert_eq!(exchanged, expected);
        }
    }

    /// The first and the third of four are answered, by upper, lower or echo.
    #[test]
    fn datagram_reply_is_paired_by_its_bytes_and_not_in_order() {
        let script = [
            (0, "sent", "one"),
            (0, "sent", "Two"),
            (0, "sent", "straße"),
            (0, "sent", "four"),
            (1, "received", "STRASSE"),
            (2, "received", "one"),
            (3, "received", "one"),
        ];
        let expected = [
            seen(1, Outcome::Ok, "straße", "STRASSE"),
            seen(2, Outcome::Ok, "one", "one"),
            seen(0, Outcome::Ok, "", "one"),
            seen(0, Outcome::Unpaired, "Two", ""),
            seen(0, Outcome::Unpaired, "four", ""),
        ];
        assert_eq!(exchanges(Shape::Datagrams, "chunk", &script), expected);
        assert_eq!(
            exchanges(Shape::Datagrams, "chunk", &script[..6])[2..],
            [
                seen(0, Outcome::Unanswered, "Two", ""),
                seen(0, Outcome::Unanswered, "four", "")
            ]
        );
    }

    #[test]
    fn datagrams_are_unpaired_if_nothing_tells_which_one_a_reply_answers() {
        let script = [
            (0, "sent", "a"),
            (0, "sent", "b"),
            (0, "sent", "c"),
            (1, "received", "17"),
            (1, "received", "19"),
        ];
        let expected = [
            seen(0, Outcome::Ok, "", "17"),
            seen(0, Outcome::Ok, "", "19"),
            seen(0, Outcome::Unpaired, "a", ""),
            seen(0, Outcome::Unpaired, "b", ""),
            seen(0, Outcome::Unpaired, "c", ""),
        ];
        assert_eq!(exchanges(Shape::Datagrams, "chunk", &script), expected);
    }

    /// As many replies as requests leave none that waits, so the next pair is certain.
    #[test]
    fn only_datagram_that_waits_gets_the_reply_whatever_it_is() {
        let script = [
            (0, "received", "unasked"),
            (0, "sent", "a"),
            (0, "sent", "b"),
            (1, "received", "17"),
            (1, "received", "19"),
            (2, "sent", "c"),
            (5, "received", "23"),
            (6, "sent", "silence"),
        ];
        let expected = [
            seen(0, Outcome::Ok, "", "unasked"),
            seen(0, Outcome::Ok, "", "17"),
            seen(0, Outcome::Ok, "", "19"),
            seen(0, Outcome::Unpaired, "a", ""),
            seen(0, Outcome::Unpaired, "b", ""),
            seen(3, Outcome::Ok, "c", "23"),
            seen(0, Outcome::Unanswered, "silence", ""),
        ];
        assert_eq!(exchanges(Shape::Datagrams, "chunk", &script), expected);
    }

    #[test]
    fn waiting_datagrams_are_bounded() {
        let numbers: Vec<String> = (0..3000).map(|n| format!("n{n}")).collect();
        let mut script: Vec<_> = numbers.iter().map(|n| (0, "sent", n.as_str())).collect();
        script.push((1, "received", "N0"));
        script.push((1, "received", "N2999"));
        let exchanged = exchanges(Shape::Datagrams, "chunk", &script);
        assert_eq!(exchanged.len(), 3001);
        assert_eq!(exchanged[0], seen(0, Outcome::Unpaired, "n0", ""));
        assert!(exchanged.contains(&seen(1, Outcome::Ok, "n2999", "N2999")));
    }

    #[test]
    fn pending_requests_are_bounded_and_pairing_continues() {
        let line = "x".repeat((1 << 20) / 4 - 1) + "\n";
        let mut script = vec![(0, "sent", line.as_str()); 6];
        script.extend([(1, "received", "R\n"); 6]);
        script.extend([(2, "sent", "last\n"), (3, "received", "LAST\n")]);
        let exchanged = exchanges(Shape::Stream, "line", &script);
        let alone: Vec<_> = exchanged.iter().map(|seen| seen.3.is_empty()).collect();
        assert_eq!(alone[..2], [true, true], "the oldest two gave way");
        assert!(alone[2..].iter().all(|alone| !alone));
        let without: Vec<_> = exchanged.iter().map(|seen| seen.2.is_empty()).collect();
        assert_eq!(
            without[2..],
            [true, true, false, false, false, false, false]
        );
        assert_eq!(
            exchanged.last(),
            Some(&seen(1, Outcome::Ok, "last\n", "LAST\n"))
        );
    }

    proptest! {
        #[test]
        fn exchanges_lose_no_bytes_for_any_cut(
            outbound in prop::sample::select(vec!["chunk", "line", "crlf", "u8", "netstring", "fixed:3"]),
            inbound in prop::sample::select(vec!["chunk", "line", "nul", "u16be", "varint"]),
            pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(
                prop_oneof![Just(b'\n'), Just(0), any::<u8>()], 1..20)), 0..30),
        ) {
            let frames: FramingPair = format!("{inbound}/{outbound}").parse().unwrap();
            let at = Instant::now();
            let mut exchanges = Exchanges::new(Shape::Stream, frames);
            let (mut requests, mut replies) = (Vec::new(), Vec::new());
            let mut on_exchange = |exchanged: ClientExchange<'_>| {
                requests.extend_from_slice(exchanged.request);
                replies.extend_from_slice(exchanged.reply);
            };
            let (mut sent, mut came) = (Vec::new(), Vec::new());
            for (is_ours, bytes) in &pieces {
                if *is_ours {
                    sent.extend_from_slice(bytes);
                    exchanges.observe(WireEvent::Sent { at, bytes, complete: true }, &mut on_exchange);
                } else {
                    came.extend_from_slice(bytes);
                    exchanges.observe(WireEvent::Received { at, bytes }, &mut on_exchange);
                }
            }
            exchanges.finish(&mut on_exchange);
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
            let mut count = 0;
            let mut on_exchange = |exchanged: ClientExchange<'_>| {
                assert_eq!(exchanged.request, exchanged.reply);
                count += 1;
            };
            for bytes in oracle::cut(&data, &addresses) {
                exchanges.observe(WireEvent::Sent { at, bytes, complete: true }, &mut on_exchange);
            }
            exchanges.observe(WireEvent::Received { at, bytes: &data }, &mut on_exchange);
            exchanges.finish(&mut on_exchange);
            let (messages, _) = oracle::messages(Framing::Line, 1 << 20, &[&data]);
            prop_assert_eq!(count, messages.len());
        }
    }
}
