//! What is encoded: one message, many in turn, or a mixture of kinds.

use echoic_core::framing::{End, Framing};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use thiserror::Error;

use super::{
    expect::Expect,
    template::{Template, TemplateValues},
};

/// What is encoded. Request number n is the same for one seed, whoever sends it and whenever.
#[derive(Clone, Debug)]
pub struct Workload {
    kinds: Vec<MessageKind>,
    choice: Choice,
}

/// One kind of message.
#[derive(Clone, Debug)]
pub struct MessageKind {
    /// What it says.
    pub message: Template,
    /// What is to come back; none leaves it to the plan.
    pub expect: Option<Expect>,
    /// How often it is chosen, among the others.
    pub weight: u32,
}

#[derive(Clone, Debug)]
enum Choice {
    InTurn,
    /// At random; the sums of the weights up to each kind.
    Weighted(Vec<u64>),
}

/// A message that its framing cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unframable {
    /// Nothing to say.
    #[error("there is no message to send")]
    Nothing,
    /// What ends a message stands within one.
    #[error("message {number} has within it what ends a message under framing {framing}")]
    Terminator {
        /// Which, from 1.
        number: usize,
        /// The framing.
        framing: Framing,
    },
    /// Not as long as every message has to be.
    #[error("message {number} has not always as many bytes as framing {framing} says")]
    Length {
        /// Which, from 1.
        number: usize,
        /// The framing.
        framing: Framing,
    },
    /// Longer than its framing can say.
    #[error("message {number} has {bytes} bytes, which is more than framing {framing} can say")]
    TooLong {
        /// Which, from 1.
        number: usize,
        /// Its length.
        bytes: usize,
        /// The framing.
        framing: Framing,
    },
    /// An empty chunk cannot be sent, and so is never answered.
    #[error("message {number} is empty, and without a framing nothing would be sent")]
    Empty {
        /// Which, from 1.
        number: usize,
    },
}

impl Workload {
    /// Always this one.
    pub fn one(message: Template) -> Self {
        Self::in_turn([message])
    }

    /// One after the other, over and over.
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

    /// At random, each as often as its weight says.
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

    /// The kinds there are.
    pub fn kinds(&self) -> &[MessageKind] {
        &self.kinds
    }

    /// Which kind request `number` is of.
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

    /// What stands before the number that tells requests apart, if all have one and in the same place.
    pub fn before_number(&self) -> Option<&[u8]> {
        let mut all = self.kinds.iter().map(|kind| kind.message.before_number());
        let first = all.next()??;
        all.all(|other| other == Some(first)).then_some(first)
    }

    /// That each message can be encoded under `framing`, as far as that is known beforehand.
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
            if framing.close(&mut out, start, End::Whole).is_err() {
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

/// A workload made ready for one framing: what never changes is framed, and its reply foreseen, once.
#[derive(Clone, Debug)]
pub(super) struct PreparedWorkload {
    workload: Workload,
    messages: Vec<PreparedMessage>,
    framing: Option<Framing>,
    seed: u64,
    /// Where in a reply the number of its request stands, and whether a reply as expected must have it.
    number: Option<(usize, bool)>,
}

#[derive(Clone, Debug)]
struct PreparedMessage {
    expect: Expect,
    /// Framed, and where in it the body lies.
    fixed: Option<(Vec<u8>, usize)>,
    reply: Option<Vec<u8>>,
}

/// Where in the bytes appended a request's body lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodedRequest {
    pub(super) kind: u32,
    pub(super) body: usize,
    pub(super) body_bytes: usize,
}

impl PreparedWorkload {
    /// Under `framing`; none for datagrams, which are whole by themselves.
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
        // The case of ASCII does not change its length.
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

    /// Appends request `number`, framed.
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

    /// Whether `reply` is what `request`, of this kind, was to bring.
    pub(super) fn is_met(&self, kind: u32, request: &[u8], reply: &[u8]) -> bool {
        let message = &self.messages[kind as usize];
        match &message.reply {
            Some(expected) => reply == expected,
            None => message.expect.is_met(request, reply),
        }
    }

    /// What a request of this kind is to bring.
    pub(super) fn expect(&self, kind: u32) -> &Expect {
        &self.messages[kind as usize].expect
    }

    /// The number of the request that `reply` says it answers.
    pub(super) fn number_in(&self, reply: &[u8]) -> Option<u64> {
        let (at, _) = self.number?;
        let rest = reply.get(at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    }

    /// Whether every reply as expected says which request it answers.
    pub(super) fn is_numbered(&self) -> bool {
        self.number.is_some_and(|(_, always)| always)
    }

    /// Seed of all that is random in it.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

/// Frames what `body` appends, and says where that begins. What the framing cannot say was refused beforehand, but for
/// lengths that a distribution came up with: those go out cut to a frame of no bytes.
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
    if framing.close(out, start, End::Whole).is_err() {
        out.truncate(opened);
        let _ = framing.close(out, start, End::Whole);
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
            ("a\nb", "line", "ends a message"),
            ("x{seq}\n", "line", "ends a message"),
            ("abc", "fixed:4", "as many bytes"),
            ("", "chunk", "nothing would be sent"),
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
