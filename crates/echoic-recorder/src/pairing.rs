//! Which request got which reply, where request and reply are seen apart: at a spawned handler, and at a client.
//!
//! No bytes are lost: the recorded requests joined are what was requested, the recorded replies joined what was replied.
//! Under declared framings the oldest request without a reply gets the next one. Under `chunk` a reply answers every
//! request before it. Where the handler gives the lengths of its replies, these decide.
//!
//! Pairing belongs to the record and never stops the flow: past 98,304 requests or 1 MiB of them the
//! oldest is recorded as answered by silence, and its reply, if it comes after all, is recorded without a request.

mod divider;
mod pending;

use std::time::Duration;

use echoic_core::{
    event::Outcome,
    framing::{Framing, FramingPair, Span},
    message::{Replies, Run},
};
use tokio::time::Instant;

pub use self::divider::Divider;
use self::pending::{Pending, Request};

/// Bytes of requests that may wait for their replies.
pub(crate) const PENDING_BYTES_MAX: usize = 1 << 20;

/// Requests that may wait for their replies: more than one read of 68 KiB of newlines and a full queue of a spawned handler
/// together, so that the requests of a handler that answers are never given up. 24 bytes each.
pub(crate) const PENDING_MAX: usize = 96 << 10;

/// A datagram that is received later than this after the oldest request answers a later one: the oldest, or its reply,
/// was lost.
const DATAGRAM_WITHIN: Duration = Duration::from_secs(1);

/// How requests and replies belong together.
#[derive(Clone, Copy, Debug)]
pub struct PairingRules {
    /// How the replies are divided where their lengths are not given.
    pub replies: Framing,
    /// The longest such reply in bytes; a longer one is recorded in pieces.
    pub reply_bytes_max: usize,
    /// Requests without a reply in between are one request.
    pub joins_requests: bool,
    /// A reply whose length is not given answers every request before it.
    pub answers_all: bool,
    /// Each request and each reply is a datagram, which may be lost.
    pub datagrams: bool,
}

impl PairingRules {
    /// Those for a spawned handler.
    pub fn of_handler(framing: FramingPair) -> Self {
        let FramingPair { inbound, outbound } = framing;
        Self {
            replies: outbound,
            reply_bytes_max: PENDING_BYTES_MAX,
            joins_requests: false,
            answers_all: !inbound.is_declared() || !outbound.is_declared(),
            datagrams: false,
        }
    }
}

/// One or more requests with their replies; either side may be empty.
#[derive(Clone, Copy, Debug)]
pub struct Paired<'a> {
    /// When the oldest request was complete, or the reply was there if it answers none.
    pub at: Instant,
    /// Time from `at` to the reply.
    pub latency: Duration,
    /// What became of the requests.
    pub outcome: Outcome,
    /// Reads that the first of the requests took.
    pub reads: u32,
    /// The requests.
    pub requests: Run<'a>,
    /// A reply to each, or bytes that answer none.
    pub replies: &'a Replies,
    /// Bytes of replies before these.
    pub reply_offset: u64,
}

/// Pairs the requests of one conversation with the replies to them.
#[derive(Debug)]
pub struct Pairing {
    rules: PairingRules,
    replies: Divider,
    pending: Pending,
    /// Requests before the pending ones that were recorded as answered by silence, and may still be answered.
    given_up: u64,
    recorded: Recorded,
}

/// What has been recorded, and the buffers for it, used again and again.
#[derive(Debug, Default)]
struct Recorded {
    reply_bytes: u64,
    spans: Vec<Span>,
    replies: Replies,
}

/// A reply, or several, as they are to be recorded.
struct Answer<'a> {
    at: Instant,
    outcome: Outcome,
    bytes: &'a [u8],
    lengths: &'a [u32],
}

impl Pairing {
    /// At the start of a conversation.
    pub fn new(rules: PairingRules) -> Self {
        Self {
            rules,
            replies: Divider::new(rules.replies, rules.reply_bytes_max),
            pending: Pending::default(),
            given_up: 0,
            recorded: Recorded::default(),
        }
    }

    /// Bytes of replies that have been recorded.
    pub fn recorded_bytes(&self) -> u64 {
        self.recorded.reply_bytes
    }

    /// Whether a reply has begun whose end is unknown. It is not recorded before that.
    pub fn has_unfinished_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Takes the requests of a run, all received at `at`; `reads` is how many reads the first of them took.
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

    /// Takes one request.
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

    /// Takes bytes that were sent in reply at `at`, with the length of each reply if that is known
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
        for reply in self.replies.divide(at, bytes, self.rules.datagrams) {
            self.reply_to_next(at, &reply, record);
        }
    }

    /// Records a reply that has begun as it is.
    pub fn flush(&mut self, record: &mut impl FnMut(Paired<'_>)) {
        if let Some((at, rest)) = self.replies.take_rest() {
            self.reply_to_next(at, &rest, record);
        }
    }

    /// The conversation is over: records what is left. `cut` says that the last request was not sent in full.
    pub fn finish(&mut self, cut: bool, record: &mut impl FnMut(Paired<'_>)) {
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

    /// From here on other rules hold. [`Self::flush`] comes first.
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
        let (answers, unasked) = bytes.split_at(sum(lengths).min(bytes.len()));
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
        if !unasked.is_empty() {
            self.record(0, &answer(unasked, &[]), record);
        }
    }

    fn reply_to_next(&mut self, at: Instant, reply: &[u8], record: &mut impl FnMut(Paired<'_>)) {
        if self.rules.datagrams {
            self.expire(at, record);
        }
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

    /// Datagrams that have waited too long, where a later one may be meant.
    fn expire(&mut self, now: Instant, record: &mut impl FnMut(Paired<'_>)) {
        while self.pending.len() > 1
            && let Some(Request { at, .. }) = self.pending.first()
            && now.saturating_duration_since(at) > DATAGRAM_WITHIN
        {
            self.give_up(Outcome::Unanswered, record);
        }
    }

    /// Records the oldest request without a reply.
    fn give_up(&mut self, outcome: Outcome, record: &mut impl FnMut(Paired<'_>)) {
        let Some(Request { at, .. }) = self.pending.first() else {
            return;
        };
        let silence = Answer {
            at,
            outcome,
            bytes: &[],
            lengths: &[0],
        };
        self.record(1, &silence, record);
    }

    /// Records an answer to the oldest `count` requests.
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
