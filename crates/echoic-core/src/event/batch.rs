//! Events in the order in which they happened, with the bytes they speak of.

use std::{ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{BatchId, ConversationId, Event, Micros, Outcome, RunEvent, Server};
use crate::message::{Replies, Run};

/// A part of a batch's bytes, or of its lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    start: usize,
    len: usize,
}

impl Slice {
    /// How long.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where it ends, if that can be said.
    pub(super) fn end(self) -> Option<usize> {
        self.start.checked_add(self.len)
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// Events in the order in which they happened, with the bytes they speak of.
///
/// Deserialised, it has been checked: its runs lie within its bytes, and their lengths add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Who recorded it.
    pub server: Arc<Server>,
    /// Its number there, from 1; 0 until the recorder has given it.
    pub number: u64,
    /// The events.
    pub events: Vec<Event>,
    pub(super) bytes: Vec<u8>,
    pub(super) lengths: Vec<u32>,
    pub(super) exchanges: u64,
}

/// What a conversation knows of a run when it records it.
#[derive(Clone, Copy, Debug)]
pub struct RunMeta {
    /// The conversation.
    pub conversation: ConversationId,
    /// Number of its first exchange, from 1.
    pub n: u64,
    /// Wall clock at the read.
    pub at: Micros,
    /// From read to write, nanoseconds.
    pub latency_ns: u64,
    /// Reads the first message took.
    pub reads: u32,
    /// Offset of what is said in all that was said.
    pub reply_offset: u64,
}

impl Batch {
    /// Its name.
    pub fn id(&self) -> BatchId {
        BatchId {
            server: self.server.id,
            number: self.number,
        }
    }

    /// Records a run and its replies, which are [`Replies::exchanges`] exchanges. What the service left unanswered
    /// becomes an event of its own, and so does what it said without answering anything: one event, one outcome.
    pub fn run(&mut self, told: RunMeta, run: &Run<'_>, replies: &Replies) {
        let answered = replies.answered().min(run.len());
        let said_alone = answered == 0 && !replies.bytes().is_empty();
        let (first, rest) = run
            .raw()
            .split_at(run.lengths().take(answered).map(|len| len as usize).sum());
        if answered > 0 || said_alone {
            let pairs = run
                .lengths()
                .zip(replies.lengths())
                .flat_map(|(request, reply)| [request, reply]);
            let lengths = if answered > 1 {
                self.push_lengths(pairs)
            } else {
                Slice::default()
            };
            self.push(
                told,
                answered.max(1),
                Outcome::Ok,
                first,
                replies.bytes(),
                lengths,
            );
        }
        let recorded = answered + usize::from(said_alone);
        let left = run.len() - answered;
        if left > 0 {
            let told = RunMeta {
                n: told.n + recorded as u64,
                reads: if answered == 0 { told.reads } else { 1 },
                reply_offset: told.reply_offset + replies.bytes().len() as u64,
                ..told
            };
            let pairs = run
                .lengths()
                .skip(answered)
                .flat_map(|request| [request, 0]);
            let lengths = if left > 1 {
                self.push_lengths(pairs)
            } else {
                Slice::default()
            };
            self.push(told, left, Outcome::Unanswered, rest, &[], lengths);
        }
    }

    /// Records one exchange whose sides are not a run: a greeting, an answer of a service apart, a message that
    /// was never answered.
    pub fn exchange(&mut self, told: RunMeta, outcome: Outcome, request: &[u8], reply: &[u8]) {
        self.push(told, 1, outcome, request, reply, Slice::default());
    }

    fn push(
        &mut self,
        told: RunMeta,
        count: usize,
        outcome: Outcome,
        request: &[u8],
        reply: &[u8],
        lengths: Slice,
    ) {
        let RunMeta {
            conversation,
            n,
            at,
            latency_ns,
            reads,
            reply_offset,
        } = told;
        let (request, reply) = (self.copy(request), self.copy(reply));
        self.exchanges += count as u64;
        self.events.push(Event::Run(RunEvent {
            conversation,
            n,
            count: count as u32,
            at,
            latency_ns,
            outcome,
            reads,
            reply_offset,
            request,
            reply,
            lengths,
        }));
    }

    fn push_lengths(&mut self, lengths: impl Iterator<Item = u32>) -> Slice {
        let start = self.lengths.len();
        self.lengths.extend(lengths);
        Slice {
            start,
            len: self.lengths.len() - start,
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Slice {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Slice {
            start,
            len: bytes.len(),
        }
    }

    /// The bytes a slice stands for.
    pub fn bytes(&self, slice: Slice) -> &[u8] {
        &self.bytes[slice.range()]
    }

    /// The lengths a slice stands for: heard and said of each exchange, alternating.
    pub fn lengths(&self, slice: Slice) -> &[u32] {
        &self.lengths[slice.range()]
    }

    /// Exchanges in it.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Roughly what it holds in memory, in bytes: the figure that back-pressure is reckoned in.
    pub fn size(&self) -> usize {
        self.bytes.len()
            + self.lengths.len() * size_of::<u32>()
            + self.events.len() * size_of::<Event>()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Empties it, to be filled again under another number. Room beyond `keep` bytes is given back.
    pub fn clear(&mut self, keep: usize) {
        self.events.clear();
        self.bytes.clear();
        self.lengths.clear();
        self.exchanges = 0;
        self.number = 0;
        self.bytes.shrink_to(keep);
        self.events.shrink_to(keep / size_of::<Event>());
        self.lengths.shrink_to(keep / size_of::<u32>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Framing, Splitter};

    type Recorded = (u64, u32, Outcome, Vec<u8>, Vec<u8>);

    fn record(answer: usize, say: bool) -> Vec<Recorded> {
        let (bytes, mut spans) = (b"a\nbb\nccc\n", Vec::new());
        Splitter::new(Framing::Line, 9).split(bytes, &mut spans);
        let run = Run::new(bytes, &spans, 0);
        let mut replies = Replies::default();
        replies.clear(Framing::Line.into());
        if say {
            replies.push(b"!");
        }
        for message in run.messages().take(answer) {
            replies.reply(&message, |out| out.extend(message.body));
        }
        let told = RunMeta {
            conversation: 1,
            n: 1,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        let mut batch = Batch::default();
        batch.run(told, &run, &replies);
        assert_eq!(replies.exchanges(&run), batch.exchanges());
        let runs = batch.events.iter().map(|event| match event {
            Event::Run(run) => (
                run.n,
                run.count,
                run.outcome,
                batch.bytes(run.request).to_vec(),
                batch.bytes(run.reply).to_vec(),
            ),
            other => panic!("{other:?}"),
        });
        runs.collect()
    }

    #[test]
    fn run_is_recorded_as_one_event_per_outcome() {
        let all = (
            1,
            3,
            Outcome::Ok,
            b"a\nbb\nccc\n".to_vec(),
            b"a\nbb\nccc\n".to_vec(),
        );
        assert_eq!(record(3, false), [all]);
        let answered = (1, 1, Outcome::Ok, b"a\n".to_vec(), b"a\n".to_vec());
        let left = (2, 2, Outcome::Unanswered, b"bb\nccc\n".to_vec(), vec![]);
        assert_eq!(record(1, false), [answered, left]);
        let reply = (1, 1, Outcome::Ok, vec![], b"!".to_vec());
        let unanswered = (2, 3, Outcome::Unanswered, b"a\nbb\nccc\n".to_vec(), vec![]);
        assert_eq!(record(0, true), [reply, unanswered]);
    }
}
