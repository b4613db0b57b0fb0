//! Pairs the datagrams that a client sent with those that it received.
//!
//! A datagram does not say which one it answers: requests and replies may be lost, doubled or reordered, and a peer may
//! answer some requests only. So a reply is paired
//!
//! 1. with the oldest request of which it is the echo, the upper case or the lower case,
//! 2. else with the only request that waits for a reply,
//! 3. else with none. It is recorded alone, and the requests that it may answer are recorded as
//!    [`Outcome::Unpaired`]: whether they were answered is not known.
//!
//! For rule 2 and 3 a request stops waiting after [`REPLY_WITHIN`] if a later one waits too, so that one lost datagram does
//! not make all later ones ambiguous.

use std::{collections::VecDeque, time::Duration};

use echoic_core::event::Outcome;
use tokio::time::Instant;

use super::ClientExchange;
use crate::bench::Expect;

/// Time that a request waits for a reply that could be another request's. The prompt reports a missing reply after the same
/// time.
const REPLY_WITHIN: Duration = Duration::from_secs(1);

/// Maximum number of waiting requests, and of their bytes. Each reply is compared with all of them.
const WAITING_MAX: usize = 1024;
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The requests without a reply, oldest first.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Replies of which it is not known which of the contested requests they answer.
    unpaired: usize,
}

#[derive(Debug)]
struct Waiting {
    at: Instant,
    bytes: Vec<u8>,
    /// A reply came that may answer this request or another one.
    is_contested: bool,
}

impl Waiting {
    /// The outcome if no reply is found for it.
    fn outcome(&self) -> Outcome {
        if self.is_contested {
            Outcome::Unpaired
        } else {
            Outcome::Unanswered
        }
    }
}

impl Datagrams {
    /// A request was sent.
    pub(super) fn sent(
        &mut self,
        at: Instant,
        bytes: &[u8],
        record: &mut impl FnMut(ClientExchange<'_>),
    ) {
        while self.waiting.len() >= WAITING_MAX
            || !self.waiting.is_empty() && self.bytes + bytes.len() > WAITING_BYTES_MAX
        {
            // Its reply may still come.
            self.end(0, Outcome::Unpaired, record);
        }
        self.bytes += bytes.len();
        self.waiting.push_back(Waiting {
            at,
            bytes: bytes.to_vec(),
            is_contested: false,
        });
    }

    /// A reply arrived.
    pub(super) fn received(
        &mut self,
        at: Instant,
        reply: &[u8],
        record: &mut impl FnMut(ClientExchange<'_>),
    ) {
        let fitting = |waiting: &Waiting| !Expect::fitting(&waiting.bytes, reply).is_empty();
        if let Some(index) = self.waiting.iter().position(fitting) {
            return self.pair(index, at, reply, record);
        }
        while let [first, _, ..] = self.waiting.make_contiguous()
            && at.saturating_duration_since(first.at) > REPLY_WITHIN
        {
            let outcome = first.outcome();
            self.end(0, outcome, record);
        }
        if self.waiting.len() == 1 {
            return self.pair(0, at, reply, record);
        }
        record(ClientExchange {
            at,
            latency: Duration::ZERO,
            outcome: Outcome::Ok,
            request: &[],
            reply,
        });
        for waiting in &mut self.waiting {
            waiting.is_contested = true;
        }
        self.unpaired += usize::from(!self.waiting.is_empty());
        if self.unpaired >= self.waiting.len() {
            // As many replies as requests: none of these waits any more.
            self.finish(record);
        }
    }

    /// The conversation is over: no reply comes any more.
    pub(super) fn finish(&mut self, record: &mut impl FnMut(ClientExchange<'_>)) {
        while let Some(first) = self.waiting.front() {
            let outcome = first.outcome();
            self.end(0, outcome, record);
        }
    }

    fn pair(
        &mut self,
        index: usize,
        at: Instant,
        reply: &[u8],
        record: &mut impl FnMut(ClientExchange<'_>),
    ) {
        let request = self.take(index);
        record(ClientExchange {
            at: request.at,
            latency: at.saturating_duration_since(request.at),
            outcome: Outcome::Ok,
            request: &request.bytes,
            reply,
        });
    }

    /// Records a request without a reply.
    fn end(&mut self, index: usize, outcome: Outcome, record: &mut impl FnMut(ClientExchange<'_>)) {
        let request = self.take(index);
        record(ClientExchange {
            at: request.at,
            latency: Duration::ZERO,
            outcome,
            request: &request.bytes,
            reply: &[],
        });
    }

    fn take(&mut self, index: usize) -> Waiting {
        let request = self.waiting.remove(index);
        let request = request.expect("invariant: the index is that of a waiting request");
        self.bytes -= request.bytes.len();
        if !self.waiting.iter().any(|waiting| waiting.is_contested) {
            self.unpaired = 0;
        }
        request
    }
}
