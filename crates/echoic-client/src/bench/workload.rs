//! The requests of a load: one message, several in turn, or a weighted mix.

use echoic_core::framing::{Framing, ReplyEnd};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use thiserror::Error;

use super::{
    expect::Expect,
    template::{Template, TemplateValues},
};

/// The requests of a load. Request number n depends only on the seed, not on the connection or the time.
#[derive(Clone, Debug)]
pub struct Workload {
    kinds: Vec<MessageKind>,
    choice: Choice,
}

/// One kind of message.
#[derive(Clone, Debug)]
pub struct MessageKind {
    /// The message.
    pub message: Template,
    /// Expected reply; `None` uses that of the plan.
    pub expect: Option<Expect>,
    /// Relative frequency.
    pub weight: u32,
}

#[derive(Clone, Debug)]
enum Choice {
    InTurn,
    /// Random; holds the cumulative weights.
    Weighted(Vec<u64>),
}

/// Bytes that a UDP datagram holds over IPv4: 65,535 less the headers of IP and UDP (RFC 768, RFC 791). IPv6 would allow 20
/// more.
const UDP_MAX: usize = 65_507;

/// Error: a message cannot be sent under its framing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unframable {
    /// The workload is empty.
    #[error("there is no message to send")]
    Nothing,
    /// A message contains the terminator.
    #[error("message {number} contains the terminator of framing {framing}")]
    Terminator {
        /// Number of the message, from 1.
        number: usize,
        /// The framing.
        framing: Framing,
    },
    /// A message does not have the fixed length.
    #[error("message {number} does not always have the length of framing {framing}")]
    Length {
        /// Number of the message, from 1.
        number: usize,
        /// The framing.
        framing: Framing,
    },
    /// A message is longer than the framing supports.
    #[error("message {number} has {bytes} bytes, more than framing {framing} supports")]
    TooLong {
        /// Number of the message, from 1.
        number: usize,
        /// Its length.
        bytes: usize,
        /// The framing.
        framing: Framing,
    },
    /// A message is longer than a UDP datagram may be.
    #[error("message {number} has {bytes} bytes, more than a UDP datagram holds ({UDP_MAX})")]
    Datagram {
        /// Number of the message, from 1.
        number: usize,
        /// Its length.
        bytes: usize,
    },
    /// A message is empty, which cannot be sent without a framing.
    #[error("message {number} is empty, which cannot be sent without a framing")]
    Empty {
        /// Number of the message, from 1.
        number: usize,
    },
}

impl Workload {
    /// Creates a workload of one message.
    pub fn one(message: Template) -> Self {
        Self::in_turn([message])
    }

    /// Creates a workload that repeats the messages in turn.
    pub fn in_turn(messages: impl IntoIterator<Item = Template>) -> Self {
        let kind = |message| MessageKind {
            message,
            expect: None,
            weight: 1,
        };
        Self {
            kinds: messages.into_iter().map(kind).collect(),
            choice: Choice::InTurn,
        }
    }

    /// Creates a workload that chooses messages at random by weight.
    pub fn mixed(kinds: Vec<MessageKind>) -> Self {
        let mut sum = 0;
        let sums = kinds.iter().map(|kind| {
            sum += u64::from(kind.weight);
            sum
        });
        Self {
            choice: Choice::Weighted(sums.collect()),
            kinds,
        }
    }

    /// Returns the message kinds.
    pub fn kinds(&self) -> &[MessageKind] {
        &self.kinds
    }

    /// Returns the index of the kind of request `number`.
    pub fn choose(&self, number: u64, seed: u64) -> usize {
        match &self.choice {
            Choice::InTurn if self.kinds.len() == 1 => 0,
            Choice::InTurn => (number % self.kinds.len() as u64) as usize,
            Choice::Weighted(sums) => {
                let seed = seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93);
                let all = sums.last().copied().unwrap_or(0).max(1);
                let drawn = SmallRng::seed_from_u64(seed).random_range(0..all);
                sums.partition_point(|sum| *sum <= drawn)
            }
        }
    }

    /// Returns the bytes before the request number, if all kinds have it at the same position.
    pub fn before_number(&self) -> Option<&[u8]> {
        let mut all = self.kinds.iter().map(|kind| kind.message.before_number());
        let first = all.next()??;
        all.all(|other| other == Some(first)).then_some(first)
    }

    /// Checks that each message fits into a UDP datagram, as far as that is known in advance.
    pub fn check_udp(&self) -> Result<(), Unframable> {
        let mut lengths = self.kinds.iter().map(|kind| kind.message.bytes()).zip(1..);
        let long =
            lengths.find_map(|(bytes, number)| Some((bytes.filter(|n| *n > UDP_MAX)?, number)));
        long.map_or(Ok(()), |(bytes, number)| {
            Err(Unframable::Datagram { number, bytes })
        })
    }

    /// Checks that each message can be sent under `framing`, as far as that is known in advance.
    pub fn check(&self, framing: Framing) -> Result<(), Unframable> {
        if self.kinds.is_empty() {
            return Err(Unframable::Nothing);
        }
        for (index, kind) in self.kinds.iter().enumerate() {
            let number = index + 1;
            let ends = |literal: &[u8]| {
                framing.terminator().is_some_and(|end| {
                    framing != Framing::Netstring && memchr::memmem::find(literal, end).is_some()
                })
            };
            if kind.message.literals().any(ends) {
                return Err(Unframable::Terminator { number, framing });
            }
            if let Framing::Fixed(length) = framing
                && kind.message.bytes() != Some(length.get() as usize)
            {
                return Err(Unframable::Length { number, framing });
            }
            let Some(message) = kind.message.fixed() else {
                continue;
            };
            let bytes = message.len();
            if framing == Framing::Chunk && bytes == 0 {
                return Err(Unframable::Empty { number });
            }
            let mut out = Vec::new();
            let start = framing.open(&mut out);
            out.extend_from_slice(message);
            if framing.close(&mut out, start, ReplyEnd::Whole).is_err() {
                return Err(Unframable::TooLong {
                    number,
                    bytes,
                    framing,
                });
            }
        }
        Ok(())
    }
}

/// A workload prepared for one framing: constant messages are encoded, and their replies computed, once.
#[derive(Clone, Debug)]
pub(super) struct PreparedWorkload {
    workload: Workload,
    messages: Vec<PreparedMessage>,
    framing: Option<Framing>,
    seed: u64,
    /// Position of the request number in a reply, and whether every expected reply contains it.
    number: Option<(usize, bool)>,
}

#[derive(Clone, Debug)]
struct PreparedMessage {
    expect: Expect,
    /// The encoded message, and the offset of its body.
    fixed: Option<(Vec<u8>, usize)>,
    reply: Option<Vec<u8>>,
}

/// Position of the body of an encoded request.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodedRequest {
    pub(super) kind: u32,
    pub(super) body: usize,
    pub(super) body_bytes: usize,
}

impl PreparedWorkload {
    /// Prepares a workload for `framing`; `None` for datagrams.
    pub(super) fn new(
        workload: &Workload,
        expect: &Expect,
        framing: Option<Framing>,
        seed: u64,
    ) -> Self {
        let messages = workload.kinds.iter().map(|kind| {
            let expect = kind.expect.as_ref().unwrap_or(expect).clone();
            let fixed = kind.message.fixed();
            let reply = fixed.and_then(|body| Some(expect.reply(body)?.into_owned()));
            let fixed = fixed.map(|body| {
                let mut framed = Vec::new();
                let at = frame(framing, &mut framed, |out| out.extend_from_slice(body));
                (framed, at)
            });
            PreparedMessage {
                expect,
                fixed,
                reply,
            }
        });
        let messages: Vec<PreparedMessage> = messages.collect();
        // Changing the case of ASCII does not change its length.
        let before = workload.before_number().filter(|before| before.is_ascii());
        let repeats_number = |message: &PreparedMessage| {
            matches!(message.expect, Expect::Upper | Expect::Lower | Expect::Echo)
        };
        Self {
            number: before.map(|before| (before.len(), messages.iter().all(repeats_number))),
            messages,
            workload: workload.clone(),
            framing,
            seed,
        }
    }

    /// Appends the encoded request.
    pub(super) fn encode(&self, values: &TemplateValues, out: &mut Vec<u8>) -> EncodedRequest {
        let kind = self.workload.choose(values.number, self.seed);
        let start = out.len();
        let (body, body_bytes) = match &self.messages[kind].fixed {
            Some((framed, at)) => {
                out.extend_from_slice(framed);
                (
                    start + at,
                    self.workload.kinds[kind]
                        .message
                        .fixed()
                        .map_or(0, <[u8]>::len),
                )
            }
            None => {
                let mut bytes = 0;
                let at = frame(self.framing, out, |out| {
                    let before = out.len();
                    self.workload.kinds[kind].message.fill(values, out);
                    bytes = out.len() - before;
                });
                (at, bytes)
            }
        };
        EncodedRequest {
            kind: kind as u32,
            body,
            body_bytes,
        }
    }

    /// Returns whether `reply` meets the expectation for `request` of this kind.
    pub(super) fn is_met(&self, kind: u32, request: &[u8], reply: &[u8]) -> bool {
        let message = &self.messages[kind as usize];
        match &message.reply {
            Some(expected) => reply == expected,
            None => message.expect.is_met(request, reply),
        }
    }

    /// Returns the expectation for requests of this kind.
    pub(super) fn expect(&self, kind: u32) -> &Expect {
        &self.messages[kind as usize].expect
    }

    /// Returns the request number contained in `reply`.
    pub(super) fn number_in(&self, reply: &[u8]) -> Option<u64> {
        let (at, _) = self.number?;
        let rest = reply.get(at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    }

    /// Returns whether every expected reply contains its request number.
    pub(super) fn is_numbered(&self) -> bool {
        self.number.is_some_and(|(_, always)| always)
    }

    /// Returns the seed of all random values.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

/// Encodes the bytes that `body` appends, and returns the offset of the body. Messages that the framing does not support
/// were rejected in advance, except for lengths drawn from a distribution: those are sent as an empty message.
fn frame(framing: Option<Framing>, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) -> usize {
    let Some(framing) = framing else {
        let at = out.len();
        body(out);
        return at;
    };
    let start = framing.open(out);
    let opened = out.len();
    body(out);
    let bytes = out.len() - opened;
    if framing.close(out, start, ReplyEnd::Whole).is_err() {
        out.truncate(opened);
        let _ = framing.close(out, start, ReplyEnd::Whole);
        return out.len();
    }
    let end = match framing {
        Framing::Prefix(_) | Framing::Varint | Framing::ContentLength => 0,
        _ => framing.terminator().map_or(0, <[u8]>::len),
    };
    out.len() - end - bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use echoic_core::framing::Splitter;

    fn mixed() -> Workload {
        let kind = |text: &str, weight, expect: Option<&str>| MessageKind {
            message: text.parse().unwrap(),
            expect: expect.map(|expect| expect.parse().unwrap()),
            weight,
        };
        Workload::mixed(vec![
            kind("a", 1, None),
            kind("b {seq}", 0, None),
            kind("c {seq}", 3, Some("len:5")),
        ])
    }

    #[test]
    fn message_kinds_follow_their_weights() {
        let workload = mixed();
        let mut counts = [0; 3];
        for number in 0..40_000 {
            counts[workload.choose(number, 9)] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn each_kind_has_its_own_expectation() {
        let prepared = PreparedWorkload::new(&mixed(), &Expect::Upper, Some(Framing::Line), 1);
        assert!(prepared.is_met(0, b"a", b"A"));
        assert!(prepared.is_met(2, b"c 1", b"12345"));
        assert!(!prepared.is_met(2, b"c 1", b"C 1"));
    }

    #[test]
    fn message_the_framing_cannot_carry_is_rejected() {
        for (message, framing, why) in [
            ("a\nb", "line", "contains the terminator"),
            ("x{seq}\n", "line", "contains the terminator"),
            ("abc", "fixed:4", "does not always have the length"),
            ("", "chunk", "cannot be sent without a framing"),
            (&"x".repeat(256), "u8", "more than"),
        ] {
            let workload = Workload::one(message.parse().unwrap());
            let error = workload
                .check(framing.parse().unwrap())
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{message:?} {framing}: {error}");
        }
        assert!(
            Workload::one(Template::literal("a,b"))
                .check(Framing::Netstring)
                .is_ok()
        );
        assert_eq!(
            Workload::in_turn([]).check(Framing::Line),
            Err(Unframable::Nothing)
        );
    }

    proptest! {
        #[test]
        fn body_of_a_framed_request_is_located(
            word in prop::sample::select(vec!["chunk", "line", "crlf", "delim:2d2d", "fixed:6", "u8", "u32le", "varint", "netstring", "content-length"]),
            fixed in any::<bool>(), number in 0_u64..10,
        ) {
            let framing: Framing = word.parse().unwrap();
            let text = if fixed { "abc de" } else { "abc {rand:2}" };
            let workload = Workload::one(text.parse().unwrap());
            prop_assert_eq!(workload.check(framing), Ok(()));
            let prepared = PreparedWorkload::new(&workload, &Expect::Echo, Some(framing), 0);
            let mut out = b"before".to_vec();
            let encoded = prepared.encode(&TemplateValues { number, ..TemplateValues::default() }, &mut out);
            let body = &out[encoded.body..encoded.body + encoded.body_bytes];
            let mut spans = Vec::new();
            Splitter::new(framing, 1000).split(&out[6..], &mut spans);
            prop_assert_eq!(spans.len(), 1);
            let split = &out[6 + spans[0].body_start as usize..6 + spans[0].body_end as usize];
            prop_assert_eq!(body, split);
            prop_assert_eq!(body.len(), 6);
        }
    }
}
