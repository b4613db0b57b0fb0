//! Requests in flight on one stream connection. Replies arrive in the order of the requests.

use std::collections::VecDeque;

use echoic_core::framing::{Framing, Span, Splitter};

use super::{
    expect::Expect,
    figures::{SAMPLE_BYTES_MAX, Sample},
    tally::{LossReason, Moments, Reply, Tally},
    template::TemplateValues,
    workload::PreparedWorkload,
};

/// Maximum length of a reply in bytes.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Maximum number of bytes of completed requests at the start of the buffer before it is compacted.
const SETTLED_BYTES_MAX: usize = 64 << 10;

/// The requests of one connection, from queueing to reply. Bytes and times are arguments.
#[derive(Debug)]
pub(super) struct Stream {
    number: u32,
    splitter: Splitter,
    /// Bytes of an incomplete reply.
    partial: Vec<u8>,
    spans: Vec<Span>,
    /// Encoded requests, stored until their replies have been checked against them.
    outgoing: Vec<u8>,
    /// Offset of the start of `outgoing` in the stream.
    base: u64,
    /// Offset up to which the kernel has accepted the stream.
    written: u64,
    requests: VecDeque<Request>,
    /// Number of requests, from the first, that were sent completely.
    sent: usize,
}

#[derive(Debug)]
struct Request {
    due: u64,
    /// When it was sent; before that, when it was queued.
    sent: u64,
    number: u64,
    kind: u32,
    body_bytes: u32,
    body: u64,
    start: u64,
    end: u64,
}

/// Error: the replies violate their framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Stream {
    /// Creates the state for a new connection `number`.
    pub(super) fn new(number: u32, framing: Framing) -> Self {
        Self {
            number,
            splitter: Splitter::new(framing, REPLY_BYTES_MAX),
            partial: Vec::new(),
            spans: Vec::new(),
            outgoing: Vec::new(),
            base: 0,
            written: 0,
            requests: VecDeque::new(),
            sent: 0,
        }
    }

    /// Returns the number of queued or unanswered requests.
    pub(super) fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Queues a request.
    pub(super) fn queue(
        &mut self,
        due: u64,
        now: u64,
        values: &TemplateValues,
        workload: &PreparedWorkload,
    ) {
        let start = self.outgoing.len();
        let encoded = workload.encode(values, &mut self.outgoing);
        self.requests.push_back(Request {
            due,
            sent: now,
            number: values.number,
            kind: encoded.kind,
            body_bytes: encoded.body_bytes as u32,
            body: self.base + encoded.body as u64,
            start: self.base + start as u64,
            end: self.base + self.outgoing.len() as u64,
        });
    }

    /// Returns the bytes still to be written.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.outgoing[(self.written - self.base) as usize..]
    }

    /// Records that the kernel accepted `bytes` in a call that started at `now`.
    pub(super) fn written(
        &mut self,
        bytes: usize,
        now: u64,
        workload: &PreparedWorkload,
        tally: &mut Tally,
    ) {
        self.written += bytes as u64;
        while let Some(request) = self.requests.get_mut(self.sent) {
            if request.end > self.written {
                break;
            }
            request.sent = now;
            tally.add_sent(request.due, now, request.end - request.start);
            self.sent += 1;
        }
        self.settle_without_reply(workload, tally);
    }

    /// Processes received bytes. Returns the number of requests that they completed.
    pub(super) fn received(
        &mut self,
        bytes: &[u8],
        now: u64,
        workload: &PreparedWorkload,
        tally: &mut Tally,
    ) -> Result<usize, Malformed> {
        let before = self.requests.len();
        let mut partial = std::mem::take(&mut self.partial);
        let joined = !partial.is_empty();
        if joined {
            partial.extend_from_slice(bytes);
        }
        let all: &[u8] = if joined { &partial } else { bytes };
        let (consumed, malformed) = if self.splitter.framing() == Framing::Chunk {
            (self.chunk(all, now, workload, tally), false)
        } else {
            let mut spans = std::mem::take(&mut self.spans);
            spans.clear();
            let split = self.splitter.split(all, &mut spans);
            for span in &spans {
                let body = &all[span.body_start as usize..span.body_end as usize];
                self.settle(body, u64::from(span.end - span.start), now, workload, tally);
            }
            self.spans = spans;
            (split.consumed, split.violation.is_some())
        };
        if joined {
            partial.drain(..consumed);
        } else {
            partial.extend_from_slice(&bytes[consumed..]);
        }
        self.partial = partial;
        self.trim();
        if malformed {
            Err(Malformed)
        } else {
            Ok(before - self.requests.len())
        }
    }

    /// The peer has ended its stream: what it sent last is a reply if an expression waited for the end.
    pub(super) fn ended(&mut self, now: u64, workload: &PreparedWorkload, tally: &mut Tally) {
        let waits = self
            .requests
            .front()
            .is_some_and(|request| matches!(workload.expect(request.kind), Expect::Regex(_)));
        if waits && self.splitter.framing() == Framing::Chunk && !self.partial.is_empty() {
            let reply = std::mem::take(&mut self.partial);
            self.settle(&reply, reply.len() as u64, now, workload, tally);
        }
    }

    /// Without a framing, a reply has the expected length or, if that is unknown, is one read.
    fn chunk(
        &mut self,
        all: &[u8],
        now: u64,
        workload: &PreparedWorkload,
        tally: &mut Tally,
    ) -> usize {
        let mut consumed = 0;
        while consumed < all.len() {
            let rest = &all[consumed..];
            let awaited = self.requests.front().filter(|_| self.sent > 0);
            let awaited = awaited.map(|request| {
                let (expect, request) = (workload.expect(request.kind), self.body(request));
                (expect, request, expect.reply_bytes(request))
            });
            let bytes = match awaited {
                // The reply is incomplete if the bytes are a prefix of it.
                Some((expect, request, Some(bytes))) if bytes > rest.len() => {
                    match expect.reply(request) {
                        Some(reply) if !reply.starts_with(rest) => rest.len(),
                        _ => break,
                    }
                }
                Some((.., Some(bytes))) => bytes,
                // The end of a read is not the end of a line: `$` and `\b` wait for what follows.
                Some((Expect::Regex(pattern), ..)) if pattern.is_undecided(rest) => break,
                _ => rest.len(),
            };
            self.settle(&rest[..bytes], bytes as u64, now, workload, tally);
            // An empty reply cannot be received: it completes with the next bytes.
            consumed += bytes;
        }
        consumed
    }

    fn body(&self, request: &Request) -> &[u8] {
        let at = (request.body - self.base) as usize;
        &self.outgoing[at..at + request.body_bytes as usize]
    }

    fn settle(
        &mut self,
        reply: &[u8],
        bytes: u64,
        now: u64,
        workload: &PreparedWorkload,
        tally: &mut Tally,
    ) {
        if self.sent == 0 {
            tally.failures.extra += 1;
            return;
        }
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        self.sent -= 1;
        let body = self.body(&request);
        let met = workload.is_met(request.kind, body, reply);
        let moments = Moments {
            due: request.due,
            sent: Some(request.sent),
        };
        if met {
            tally.add_reply(moments, now, Reply::Ok, bytes);
        } else {
            tally.add_reply(moments, now, Reply::Wrong, bytes);
            let number = self.number;
            tally
                .add_sample(|| sample(number, request.number, body, reply, workload, request.kind));
        }
        self.settle_without_reply(workload, tally);
    }

    /// Completes requests without an expected reply that were sent and precede all unanswered ones.
    fn settle_without_reply(&mut self, workload: &PreparedWorkload, tally: &mut Tally) {
        while self.sent > 0
            && let Some(request) = self.requests.front()
            && !workload.expect(request.kind).expects_reply()
        {
            tally.add_done_when_sent(request.due, request.sent);
            self.requests.pop_front();
            self.sent -= 1;
        }
        self.trim();
    }

    /// Removes completed requests from the buffer.
    fn trim(&mut self) {
        let needed = self
            .requests
            .front()
            .map_or(self.written, |request| request.start);
        let settled = (needed.min(self.written) - self.base) as usize;
        if settled == self.outgoing.len() {
            self.outgoing.clear();
        } else if settled > SETTLED_BYTES_MAX {
            self.outgoing.drain(..settled);
        } else {
            return;
        }
        self.base += settled as u64;
    }

    /// Returns whether the oldest request exceeded the timeout.
    pub(super) fn is_overdue(&self, now: u64, timeout: u64) -> bool {
        let oldest = self.requests.front();
        oldest.is_some_and(|request| now.saturating_sub(request.sent) >= timeout)
    }

    /// Marks all requests as lost, because the connection has ended. Those that exceeded the timeout have timed out; for the
    /// others the reason is `reason`.
    pub(super) fn abandon(
        &mut self,
        now: u64,
        timeout: u64,
        reason: LossReason,
        tally: &mut Tally,
    ) {
        for (index, request) in self.requests.drain(..).enumerate() {
            let sent = (index < self.sent).then_some(request.sent);
            let is_timed_out = sent.is_some_and(|sent| now.saturating_sub(sent) >= timeout);
            let reason = if is_timed_out {
                LossReason::TimedOut
            } else {
                reason
            };
            let due = request.due;
            tally.add_lost(Moments { due, sent }, now, reason, timeout);
        }
        let framing = self.splitter.framing();
        *self = Self {
            partial: std::mem::take(&mut self.partial),
            spans: std::mem::take(&mut self.spans),
            outgoing: std::mem::take(&mut self.outgoing),
            requests: std::mem::take(&mut self.requests),
            ..Self::new(self.number, framing)
        };
        self.partial.clear();
        self.outgoing.clear();
    }
}

pub(super) fn sample(
    connection: u32,
    number: u64,
    request: &[u8],
    reply: &[u8],
    workload: &PreparedWorkload,
    kind: u32,
) -> Sample {
    let truncate = |bytes: &[u8]| bytes[..bytes.len().min(SAMPLE_BYTES_MAX)].to_vec();
    let expect = workload.expect(kind);
    let expected = match expect.reply(request) {
        Some(reply) => truncate(&reply),
        None => truncate(expect.to_string().as_bytes()),
    };
    Sample {
        connection,
        number,
        request: truncate(request),
        reply: truncate(reply),
        expected,
    }
}
