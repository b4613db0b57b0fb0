//! Pairs requests with replies where the two are observed separately: at a spawned handler, and at a client.
//!
//! No byte is lost: the recorded requests concatenated are the bytes requested, the recorded replies the bytes replied.
//! Under declared framings the oldest unanswered request gets the next reply. Under `chunk` a reply answers every request
//! before it. If the handler gives the lengths of its replies, the lengths decide.
//!
//! Pairing is for the record only and never delays traffic. Beyond 98,304 pending requests or 1 MiB of them, the oldest
//! is recorded with an empty reply. If its reply arrives later, it is recorded without a request.

mod divider;
mod pending;

use std::time::Duration;

use echoic_core::{
    event::Outcome,
    framing::{Framing, FramingPair, Span},
    left_over::LeftOver,
    message::{Replies, Run},
};
use tokio::time::Instant;

pub use self::divider::Divider;
use self::pending::{Pending, Request};

/// Maximum of bytes of pending requests.
pub(crate) const PENDING_BYTES_MAX: usize = 1 << 20;

/// Maximum of pending requests: more than a read of 68 KiB of newlines and a full queue of a spawned handler together, so
/// that no request to a handler that answers is given up. 24 bytes each.
pub(crate) const PENDING_MAX: usize = 96 << 10;

/// Rules for pairing requests with replies.
#[derive(Clone, Copy, Debug)]
pub struct PairingRules {
    /// Framing that divides replies whose lengths are not given.
    pub replies: Framing,
    /// Maximum length of such a reply in bytes; a longer one is recorded in pieces.
    pub reply_bytes_max: usize,
    /// Consecutive requests without a reply in between are recorded as one request.
    pub joins_requests: bool,
    /// A reply whose length is not given answers every request before it.
    pub answers_all: bool,
}

impl PairingRules {
    /// Returns the rules for a spawned handler.
    pub fn of_handler(framing: FramingPair) -> Self {
        let FramingPair { inbound, outbound } = framing;
        Self {
            replies: outbound,
            reply_bytes_max: PENDING_BYTES_MAX,
            joins_requests: false,
            answers_all: !inbound.is_declared() || !outbound.is_declared(),
        }
    }
}

/// One or more requests with their replies; either side may be empty.
#[derive(Clone, Copy, Debug)]
pub struct Paired<'a> {
    /// Time at which the oldest request was complete, or the reply arrived if it answers none.
    pub at: Instant,
    /// Time from `at` to the reply.
    pub latency: Duration,
    /// Outcome of the requests.
    pub outcome: Outcome,
    /// Number of reads that the first request took.
    pub reads: u32,
    /// The requests.
    pub requests: Run<'a>,
    /// One reply per request, or bytes that answer no request.
    pub replies: &'a Replies,
    /// Number of reply bytes before these.
    pub reply_offset: u64,
}

/// Pairs the requests of one conversation with the replies to them.
#[derive(Debug)]
pub struct Pairing {
    rules: PairingRules,
    replies: Divider,
    pending: Pending,
    /// Number of requests given up whose replies may still arrive.
    given_up: u64,
    recorded: Recorded,
}

/// Count of recorded reply bytes, and reused buffers.
#[derive(Debug, Default)]
struct Recorded {
    reply_bytes: u64,
    spans: Vec<Span>,
    replies: Replies,
}

/// One or more replies to record.
struct Answer<'a> {
    at: Instant,
    outcome: Outcome,
    bytes: &'a [u8],
    lengths: &'a [u32],
}

impl Pairing {
    /// Creates the pairing of a new conversation.
    pub fn new(rules: PairingRules) -> Self {
        Self {
            rules,
            replies: Divider::new(rules.replies, rules.reply_bytes_max),
            pending: Pending::default(),
            given_up: 0,
            recorded: Recorded::default(),
        }
    }

    /// Returns the number of reply bytes recorded.
    pub fn recorded_bytes(&self) -> u64 {
        self.recorded.reply_bytes
    }

    /// Whether an incomplete reply is held back until its end arrives.
    pub fn has_unfinished_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Returns the bytes replied that made no message, to be asked before [`Self::end_of_input`]; they are part of a reply
    /// too.
    pub fn left_over(&self) -> Option<Box<LeftOver>> {
        self.replies.left_over()
    }

    /// Adds the requests of a run, all received at `at`. `reads` is the number of reads that the first one took.
    pub fn requests(
        &mut self,
        at: Instant,
        reads: u32,
        run: &Run<'_>,
        record: &mut impl FnMut(Paired<'_>),
    ) {
        for (i, message) in run.messages().enumerate() {
            let reads = if i == 0 { reads } else { 1 };
            self.request(at, reads, message.raw, record);
        }
    }

    /// Adds one request.
    pub fn request(
        &mut self,
        at: Instant,
        reads: u32,
        raw: &[u8],
        record: &mut impl FnMut(Paired<'_>),
    ) {
        let joins = self.rules.joins_requests && self.pending.has_room(raw.len(), false);
        if joins && self.pending.extend_last(at, raw) {
            return;
        }
        while !self.pending.is_empty() && !self.pending.has_room(raw.len(), true) {
            self.give_up(Outcome::Ok, record);
            self.given_up += u64::from(!self.rules.joins_requests);
        }
        self.pending.push(at, reads, raw);
    }

    /// Adds bytes replied at `at`, with the length of each reply if it is known
    /// ([`Reply::Bytes`](echoic_core::service::Reply)).
    pub fn reply(
        &mut self,
        at: Instant,
        bytes: &[u8],
        lengths: Option<&[u32]>,
        record: &mut impl FnMut(Paired<'_>),
    ) {
        if let Some(lengths) = lengths {
            self.flush(record);
            self.reply_with_lengths(at, bytes, lengths, record);
            return;
        }
        for reply in self.replies.divide(at, bytes) {
            self.reply_to_next(at, &reply, record);
        }
    }

    /// Records an incomplete reply.
    pub fn flush(&mut self, record: &mut impl FnMut(Paired<'_>)) {
        if let Some((at, rest)) = self.replies.take_rest() {
            self.reply_to_next(at, &rest, record);
        }
    }

    /// Records the remaining requests and bytes at the end of the conversation. `cut`: the last request was not sent in
    /// full.
    pub fn end_of_input(&mut self, cut: bool, record: &mut impl FnMut(Paired<'_>)) {
        self.flush(record);
        while !self.pending.is_empty() {
            let outcome = if cut && self.pending.len() == 1 {
                Outcome::Unsent
            } else {
                Outcome::Unanswered
            };
            self.give_up(outcome, record);
        }
    }

    /// Changes the rules. The caller must call [`Self::flush`] first.
    pub fn set_rules(&mut self, rules: PairingRules) {
        self.replies = Divider::new(rules.replies, rules.reply_bytes_max);
        self.rules = rules;
    }

    fn reply_with_lengths(
        &mut self,
        at: Instant,
        bytes: &[u8],
        lengths: &[u32],
        record: &mut impl FnMut(Paired<'_>),
    ) {
        let sum = |lengths: &[u32]| lengths.iter().map(|len| *len as usize).sum::<usize>();
        let late = self.given_up.min(lengths.len() as u64) as usize;
        self.given_up -= late as u64;
        let (late, lengths) = lengths.split_at(late);
        let (late, bytes) = bytes.split_at(sum(late).min(bytes.len()));
        let lengths = &lengths[..lengths.len().min(self.pending.len())];
        let (answers, unsolicited) = bytes.split_at(sum(lengths).min(bytes.len()));
        let answer = |bytes, lengths| Answer {
            at,
            outcome: Outcome::Ok,
            bytes,
            lengths,
        };
        if !late.is_empty() {
            self.record(0, &answer(late, &[]), record);
        }
        if !lengths.is_empty() {
            self.record(lengths.len(), &answer(answers, lengths), record);
        }
        if !unsolicited.is_empty() {
            self.record(0, &answer(unsolicited, &[]), record);
        }
    }

    fn reply_to_next(&mut self, at: Instant, reply: &[u8], record: &mut impl FnMut(Paired<'_>)) {
        let answers = if self.rules.answers_all {
            self.given_up = 0;
            self.pending.join();
            1
        } else if self.given_up > 0 {
            self.given_up -= 1;
            0
        } else {
            1
        };
        let answers = answers.min(self.pending.len());
        let lengths = [reply.len() as u32];
        let answer = Answer {
            at,
            outcome: Outcome::Ok,
            bytes: reply,
            lengths: &lengths[..answers],
        };
        self.record(answers, &answer, record);
    }

    /// Records the oldest request with an empty reply.
    fn give_up(&mut self, outcome: Outcome, record: &mut impl FnMut(Paired<'_>)) {
        let Some(Request { at, .. }) = self.pending.first() else {
            return;
        };
        let empty = Answer {
            at,
            outcome,
            bytes: &[],
            lengths: &[0],
        };
        self.record(1, &empty, record);
    }

    /// Records an answer to the oldest `count` requests, and removes them.
    fn record(&mut self, count: usize, answer: &Answer<'_>, record: &mut impl FnMut(Paired<'_>)) {
        let Recorded {
            reply_bytes,
            spans,
            replies,
        } = &mut self.recorded;
        let first = self.pending.first();
        let first = first.filter(|_| count > 0);
        let (at, reads) = first.map_or((answer.at, 0), |first| (first.at, first.reads));
        replies.set_framed(answer.bytes, answer.lengths.iter().copied());
        let bytes = self.pending.oldest(count, spans);
        record(Paired {
            at,
            latency: answer.at.saturating_duration_since(at),
            outcome: answer.outcome,
            reads,
            requests: Run::new(bytes, spans, 0),
            replies,
            reply_offset: *reply_bytes,
        });
        *reply_bytes += answer.bytes.len() as u64;
        self.pending.remove(count);
    }
}

#[cfg(test)]
mod tests;
