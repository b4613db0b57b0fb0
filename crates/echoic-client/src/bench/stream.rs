//! What one connection has said and waits for. Replies come in the order of their requests.

use std::collections::VecDeque;

use echoic_core::framing::{Framing, Span, Splitter};

use super::{
    figures::{SAMPLE_BYTES_MAX, Sample},
    tally::{Moments, Reply, Tally, Why},
    template::Blanks,
    workload::Script,
};

/// Largest reply that is taken, in bytes.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Bytes of settled requests that may stand before what is still needed, until they are moved over.
const SETTLED_MAX: usize = 64 << 10;

/// The requests of one connection from being asked to being answered. Bytes and times come in as arguments.
#[derive(Debug)]
pub(super) struct Stream {
    number: u32,
    splitter: Splitter,
    /// What came and is no whole reply yet.
    partial: Vec<u8>,
    spans: Vec<Span>,
    /// Requests as they leave, and until they are answered: their replies are checked against them.
    said: Vec<u8>,
    /// Where in the stream `said` begins.
    base: u64,
    /// How far the kernel has taken it.
    written: u64,
    flights: VecDeque<Flight>,
    /// So many of them, from the first, have left as a whole.
    sent: usize,
}

#[derive(Debug)]
struct Flight {
    due: u64,
    /// When it left; until then, when it was asked.
    sent: u64,
    number: u64,
    kind: u32,
    body_bytes: u32,
    body: u64,
    start: u64,
    end: u64,
}

/// Replies that cannot be divided any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Stream {
    /// At the start of connection `number`.
    pub(super) fn new(number: u32, framing: Framing) -> Self {
        Self {
            number,
            splitter: Splitter::new(framing, REPLY_BYTES_MAX),
            partial: Vec::new(),
            spans: Vec::new(),
            said: Vec::new(),
            base: 0,
            written: 0,
            flights: VecDeque::new(),
            sent: 0,
        }
    }

    /// Requests asked and not settled.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Queues a request.
    pub(super) fn ask(&mut self, due: u64, now: u64, blanks: &Blanks, script: &Script) {
        let start = self.said.len();
        let said = script.say(blanks, &mut self.said);
        self.flights.push_back(Flight {
            due,
            sent: now,
            number: blanks.number,
            kind: said.kind,
            body_bytes: said.body_bytes as u32,
            body: self.base + said.body as u64,
            start: self.base + start as u64,
            end: self.base + self.said.len() as u64,
        });
    }

    /// What is to be written.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.said[(self.written - self.base) as usize..]
    }

    /// The kernel took so many bytes in a call that began at `now`.
    pub(super) fn wrote(&mut self, bytes: usize, now: u64, script: &Script, tally: &mut Tally) {
        self.written += bytes as u64;
        while let Some(flight) = self.flights.get_mut(self.sent) {
            if flight.end > self.written {
                break;
            }
            flight.sent = now;
            tally.sent(flight.due, now, flight.end - flight.start);
            self.sent += 1;
        }
        self.settle_silent(script, tally);
    }

    /// Bytes came. Says how many requests they settled.
    pub(super) fn heard(
        &mut self,
        bytes: &[u8],
        now: u64,
        script: &Script,
        tally: &mut Tally,
    ) -> Result<usize, Malformed> {
        let before = self.flights.len();
        let mut partial = std::mem::take(&mut self.partial);
        let joined = !partial.is_empty();
        if joined {
            partial.extend_from_slice(bytes);
        }
        let all: &[u8] = if joined { &partial } else { bytes };
        let (consumed, malformed) = if self.splitter.framing() == Framing::Chunk {
            (self.chunk(all, now, script, tally), false)
        } else {
            let mut spans = std::mem::take(&mut self.spans);
            spans.clear();
            let split = self.splitter.split(all, &mut spans);
            for span in &spans {
                let body = &all[span.body_start as usize..span.body_end as usize];
                self.settle(body, u64::from(span.end - span.start), now, script, tally);
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
            Ok(before - self.flights.len())
        }
    }

    /// Without a framing a reply is as long as expected, or, where that is not known, what one read brought.
    fn chunk(&mut self, all: &[u8], now: u64, script: &Script, tally: &mut Tally) -> usize {
        let mut consumed = 0;
        while consumed < all.len() {
            let rest = &all[consumed..];
            let awaited = self.flights.front().filter(|_| self.sent > 0);
            let awaited = awaited.map(|flight| {
                let (expect, request) = (script.expect(flight.kind), self.request(flight));
                (expect, request, expect.reply_bytes(request))
            });
            let bytes = match awaited {
                // Not all of it yet, if what is there is how it begins.
                Some((expect, request, Some(bytes))) if bytes > rest.len() => {
                    match expect.reply(request) {
                        Some(reply) if !reply.starts_with(rest) => rest.len(),
                        _ => break,
                    }
                }
                Some((.., Some(bytes))) => bytes,
                _ => rest.len(),
            };
            self.settle(&rest[..bytes], bytes as u64, now, script, tally);
            // A reply of no bytes never comes: it is there as soon as anything is.
            consumed += bytes;
        }
        consumed
    }

    fn request(&self, flight: &Flight) -> &[u8] {
        let at = (flight.body - self.base) as usize;
        &self.said[at..at + flight.body_bytes as usize]
    }

    fn settle(&mut self, reply: &[u8], bytes: u64, now: u64, script: &Script, tally: &mut Tally) {
        if self.sent == 0 {
            tally.failures.extra += 1;
            return;
        }
        let Some(flight) = self.flights.pop_front() else {
            return;
        };
        self.sent -= 1;
        let request = self.request(&flight);
        let met = script.is_met(flight.kind, request, reply);
        let moments = Moments {
            due: flight.due,
            sent: Some(flight.sent),
        };
        if met {
            tally.answered(moments, now, Reply::Ok, bytes);
        } else {
            tally.answered(moments, now, Reply::Wrong, bytes);
            let number = self.number;
            tally.sample(|| sample(number, flight.number, request, reply, script, flight.kind));
        }
        self.settle_silent(script, tally);
    }

    /// What is not answered is done once it has left and everything before it is done.
    fn settle_silent(&mut self, script: &Script, tally: &mut Tally) {
        while self.sent > 0
            && let Some(flight) = self.flights.front()
            && !script.expect(flight.kind).waits()
        {
            tally.done_by_sending(flight.due, flight.sent);
            self.flights.pop_front();
            self.sent -= 1;
        }
        self.trim();
    }

    /// Lets go of what is settled.
    fn trim(&mut self) {
        let needed = self
            .flights
            .front()
            .map_or(self.written, |flight| flight.start);
        let settled = (needed.min(self.written) - self.base) as usize;
        if settled == self.said.len() {
            self.said.clear();
        } else if settled > SETTLED_MAX {
            self.said.drain(..settled);
        } else {
            return;
        }
        self.base += settled as u64;
    }

    /// Whether the oldest request has been out for as long as is allowed.
    pub(super) fn is_overdue(&self, now: u64, timeout: u64) -> bool {
        let oldest = self.flights.front();
        oldest.is_some_and(|flight| now.saturating_sub(flight.sent) >= timeout)
    }

    /// Gives everything up, since the connection is over. Those that were out for the time-out have timed out, for the
    /// others `why` is the reason.
    pub(super) fn give_up(&mut self, now: u64, timeout: u64, why: Why, tally: &mut Tally) {
        for (index, flight) in self.flights.drain(..).enumerate() {
            let sent = (index < self.sent).then_some(flight.sent);
            let over = sent.is_some_and(|sent| now.saturating_sub(sent) >= timeout);
            let why = if over { Why::TimedOut } else { why };
            let due = flight.due;
            tally.given_up(Moments { due, sent }, now, why, timeout);
        }
        let framing = self.splitter.framing();
        *self = Self {
            partial: std::mem::take(&mut self.partial),
            spans: std::mem::take(&mut self.spans),
            said: std::mem::take(&mut self.said),
            flights: std::mem::take(&mut self.flights),
            ..Self::new(self.number, framing)
        };
        self.partial.clear();
        self.said.clear();
    }
}

pub(super) fn sample(
    connection: u32,
    number: u64,
    request: &[u8],
    reply: &[u8],
    script: &Script,
    kind: u32,
) -> Sample {
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(SAMPLE_BYTES_MAX)].to_vec();
    let expect = script.expect(kind);
    let expected = match expect.reply(request) {
        Some(reply) => cut(&reply),
        None => cut(expect.to_string().as_bytes()),
    };
    Sample {
        connection,
        number,
        request: cut(request),
        reply: cut(reply),
        expected,
    }
}
