//! Batches: events in the order in which they happened, with their bytes.

use std::{ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{BatchId, ConversationId, Event, Micros, Outcome, RunEvent, ServerInfo};
use crate::message::{Replies, Run};

/// A range of the bytes of a batch, or of its lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    start: usize,
    len: usize,
}

impl Slice {
    /// Returns its length.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns its end, unless that overflows.
    pub(super) fn end(self) -> Option<usize> {
        self.start.checked_add(self.len)
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// Events in the order in which they happened, with their bytes.
///
/// Deserialising checks that all runs are within the bytes, and that their lengths add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The server that recorded it.
    pub server: Arc<ServerInfo>,
    /// Its number on that server, from 1; 0 until the recorder assigns it.
    pub number: u64,
    /// The events.
    pub events: Vec<Event>,
    pub(super) bytes: Vec<u8>,
    pub(super) lengths: Vec<u32>,
    pub(super) exchanges: u64,
}

/// Metadata of a run, as the conversation records it.
#[derive(Clone, Copy, Debug)]
pub struct RunMeta {
    /// The conversation.
    pub conversation: ConversationId,
    /// Number of its first exchange, from 1.
    pub n: u64,
    /// Wall-clock time of the read.
    pub at: Micros,
    /// Time from read to write, in nanoseconds.
    pub latency_ns: u64,
    /// Number of reads that the first message took.
    pub reads: u32,
    /// Offset of the replies in all reply bytes of the conversation.
    pub reply_offset: u64,
}

impl Batch {
    /// Returns the id of the batch.
    pub fn id(&self) -> BatchId {
        BatchId {
            server: self.server.id,
            number: self.number,
        }
    }

    /// Records a run and its replies, [`Replies::exchanges`] exchanges in all. Unanswered requests are an event of their own,
    /// and so are bytes that answer no request: each event has one outcome.
    pub fn push_run(&mut self, meta: RunMeta, run: &Run<'_>, replies: &Replies) {
        let answered = replies.answered().min(run.len());
        let is_unsolicited = answered == 0 && !replies.bytes().is_empty();
        let (first, rest) = run
            .raw()
            .split_at(run.lengths().take(answered).map(|len| len as usize).sum());
        if answered > 0 || is_unsolicited {
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
                meta,
                answered.max(1),
                Outcome::Ok,
                first,
                replies.bytes(),
                lengths,
            );
        }
        let recorded = answered + usize::from(is_unsolicited);
        let left = run.len() - answered;
        if left > 0 {
            let meta = RunMeta {
                n: meta.n + recorded as u64,
                reads: if answered == 0 { meta.reads } else { 1 },
                reply_offset: meta.reply_offset + replies.bytes().len() as u64,
                ..meta
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
            self.push(meta, left, Outcome::Unanswered, rest, &[], lengths);
        }
    }

    /// Records a single exchange: a greeting, a reply of a spawned handler, or an unanswered request.
    pub fn push_exchange(&mut self, meta: RunMeta, outcome: Outcome, request: &[u8], reply: &[u8]) {
        self.push(meta, 1, outcome, request, reply, Slice::default());
    }

    fn push(
        &mut self,
        meta: RunMeta,
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
        } = meta;
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

    /// Returns the bytes of a slice.
    pub fn bytes(&self, slice: Slice) -> &[u8] {
        &self.bytes[slice.range()]
    }

    /// Returns the lengths of a slice: request and reply of each exchange, alternating.
    pub fn lengths(&self, slice: Slice) -> &[u32] {
        &self.lengths[slice.range()]
    }

    /// Returns the number of exchanges.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Returns its approximate size in memory, in bytes. Back-pressure counts these.
    pub fn size(&self) -> usize {
        self.bytes.len()
            + self.lengths.len() * size_of::<u32>()
            + self.events.len() * size_of::<Event>()
    }

    /// Whether it has no events.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Empties it for reuse with another number. Capacity beyond `capacity` bytes is released.
    pub fn clear(&mut self, capacity: usize) {
        self.events.clear();
        self.bytes.clear();
        self.lengths.clear();
        self.exchanges = 0;
        self.number = 0;
        self.bytes.shrink_to(capacity);
        self.events.shrink_to(capacity / size_of::<Event>());
        self.lengths.shrink_to(capacity / size_of::<u32>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Framing, Splitter};

    type Recorded = (u64, u32, Outcome, Vec<u8>, Vec<u8>);

    fn record(answered: usize, greets: bool) -> Vec<Recorded> {
        let (bytes, mut spans) = (b"a\nbb\nccc\n", Vec::new());
        Splitter::new(Framing::Line, 9).split(bytes, &mut spans);
        let run = Run::new(bytes, &spans, 0);
        let mut replies = Replies::default();
        replies.clear(Framing::Line.into());
        if greets {
            replies.push(b"!");
        }
        for message in run.messages().take(answered) {
            replies.reply(&message, |out| out.extend(message.body));
        }
        let meta = RunMeta {
            conversation: 1,
            n: 1,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        let mut batch = Batch::default();
        batch.push_run(meta, &run, &replies);
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
