//! Requests in flight on one datagram socket. Replies may arrive in any order, twice, late or not at all.

use std::collections::{BTreeMap, VecDeque};

use super::{
    arrivals::{Arrival, ArrivalTracker},
    clock::Clock,
    stream::sample,
    tally::{LossReason, Moments, Reply, Tally},
    template::TemplateValues,
    workload::{EncodedRequest, PreparedWorkload},
};

/// Maximum number of timed-out requests that are tracked in case of a late reply.
const TIMED_OUT_MAX: usize = 1 << 20;
/// Maximum number of requests that are compared with a reply without a number.
const CANDIDATES_MAX: usize = 256;

/// The requests of one socket, from queueing to reply. Bytes and times are arguments.
#[derive(Debug)]
pub(super) struct DatagramFlow {
    number: u32,
    /// Number of sockets in the plan; request numbers are distributed over them in turn.
    sockets: u64,
    /// Requests from number `base` on, indexed by their number on this socket.
    requests: VecDeque<Request>,
    base: u64,
    /// Number of the next request to send; later ones are queued.
    unsent: u64,
    in_flight: usize,
    arrivals: ArrivalTracker,
    /// Requests that timed out, with their times.
    timed_out: BTreeMap<u64, Moments>,
    request: Vec<u8>,
    /// Message kind of the last rendered request.
    kind: u32,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    due: u64,
    /// When it was sent; before that, when it was queued.
    sent: u64,
    is_pending: bool,
}

impl DatagramFlow {
    /// Creates the state for socket `number` of `sockets`.
    pub(super) fn new(number: u32, sockets: u64) -> Self {
        Self {
            number,
            sockets,
            requests: VecDeque::new(),
            base: 0,
            unsent: 0,
            in_flight: 0,
            arrivals: ArrivalTracker::default(),
            timed_out: BTreeMap::new(),
            request: Vec::new(),
            kind: 0,
        }
    }

    /// Returns the number of queued or unanswered requests.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns the number of replies that may still arrive, including late ones.
    pub(super) fn awaited_replies(&self) -> usize {
        self.in_flight + self.timed_out.len()
    }

    /// Queues a request.
    pub(super) fn queue(&mut self, due: u64, now: u64) {
        self.requests.push_back(Request {
            due,
            sent: now,
            is_pending: true,
        });
        self.in_flight += 1;
    }

    /// Renders and returns the next datagram to send.
    pub(super) fn unsent(&mut self, clock: &Clock, workload: &PreparedWorkload) -> Option<&[u8]> {
        let request = *self.requests.get((self.unsent - self.base) as usize)?;
        self.kind = self.render(self.unsent, request.due, clock, workload).kind;
        Some(&self.request)
    }

    /// Records that the kernel accepted the datagram, or rejected it permanently.
    pub(super) fn sent(
        &mut self,
        now: u64,
        accepted: bool,
        workload: &PreparedWorkload,
        tally: &mut Tally,
    ) {
        let index = (self.unsent - self.base) as usize;
        self.unsent += 1;
        let Some(request) = self.requests.get_mut(index) else {
            return;
        };
        let due = request.due;
        if !accepted {
            request.is_pending = false;
            self.in_flight -= 1;
            tally.failures.not_sent += 1;
            let unsent = Moments { due, sent: None };
            tally.add_lost(unsent, now, LossReason::Cut, 0);
            return;
        }
        request.sent = now;
        tally.add_sent(due, now, self.request.len() as u64);
        if !workload.expect(self.kind).expects_reply() {
            request.is_pending = false;
            self.in_flight -= 1;
            tally.add_done_when_sent(due, now);
        }
    }

    fn render(
        &mut self,
        own: u64,
        due: u64,
        clock: &Clock,
        workload: &PreparedWorkload,
    ) -> EncodedRequest {
        self.request.clear();
        let values = TemplateValues {
            number: own * self.sockets + u64::from(self.number),
            connection: self.number,
            unix_nanos: clock.unix_nanos(due),
            seed: workload.seed(),
        };
        workload.encode(&values, &mut self.request)
    }

    /// Processes a received datagram.
    pub(super) fn received(
        &mut self,
        reply: &[u8],
        now: u64,
        clock: &Clock,
        workload: &PreparedWorkload,
        tally: &mut Tally,
    ) {
        let Some(own) = self.request_of(reply, clock, workload) else {
            tally.failures.extra += 1;
            return;
        };
        let arrival = self.arrivals.record(own);
        let is_counted = now >= tally.from;
        let Arrival::First { reordered_by } = arrival else {
            tally.outcomes.duplicate += u64::from(is_counted);
            return;
        };
        if let Some(by) = reordered_by.filter(|_| is_counted) {
            tally.outcomes.reordered += 1;
            tally.outcomes.reordered_by = tally.outcomes.reordered_by.max(by);
        }
        let (moments, is_late) = match self.settle(own) {
            Some(moments) => (moments, false),
            None => match self.timed_out.remove(&own) {
                Some(moments) => (moments, true),
                None => return,
            },
        };
        let encoded = self.render(own, moments.due, clock, workload);
        let met = workload.is_met(encoded.kind, &self.request, reply);
        let outcome = match (met, is_late) {
            (true, false) => Reply::Ok,
            (false, false) => Reply::Wrong,
            (_, true) => Reply::Late,
        };
        tally.add_reply(moments, now, outcome, reply.len() as u64);
        if !met && !is_late {
            let expected = workload.expect(encoded.kind).reply(&self.request);
            let cut =
                expected.is_some_and(|whole| whole.len() > reply.len() && whole.starts_with(reply));
            if cut && tally.is_in_window(moments.due) {
                tally.outcomes.truncated += 1;
            }
            let number = own * self.sockets + u64::from(self.number);
            let request = &self.request;
            tally
                .add_sample(|| sample(self.number, number, request, reply, workload, encoded.kind));
        }
    }

    /// Finds the request of a reply: by the number in it; without a number, the oldest one that it meets, or the oldest.
    fn request_of(
        &mut self,
        reply: &[u8],
        clock: &Clock,
        workload: &PreparedWorkload,
    ) -> Option<u64> {
        if let Some(number) = workload.number_in(reply) {
            let own = number / self.sockets;
            let is_ours = number % self.sockets == u64::from(self.number) && own < self.unsent;
            return is_ours.then_some(own);
        }
        if workload.is_numbered() {
            return None;
        }
        let sent = self.base..self.unsent;
        let is_pending =
            |flow: &Self, own: &u64| flow.requests[(own - flow.base) as usize].is_pending;
        let candidates: Vec<u64> = sent
            .filter(|own| is_pending(self, own))
            .take(CANDIDATES_MAX)
            .collect();
        let fits = candidates.iter().copied().find(|own| {
            let due = self.requests[(own - self.base) as usize].due;
            let encoded = self.render(*own, due, clock, workload);
            workload.is_met(encoded.kind, &self.request, reply)
        });
        fits.or_else(|| candidates.first().copied())
    }

    fn settle(&mut self, own: u64) -> Option<Moments> {
        let index = own.checked_sub(self.base)? as usize;
        let request = self
            .requests
            .get_mut(index)
            .filter(|request| request.is_pending)?;
        request.is_pending = false;
        self.in_flight -= 1;
        let moments = Moments {
            due: request.due,
            sent: Some(request.sent),
        };
        self.trim();
        Some(moments)
    }

    fn trim(&mut self) {
        while self.base < self.unsent
            && let Some(request) = self.requests.front()
            && !request.is_pending
        {
            self.requests.pop_front();
            self.base += 1;
        }
    }

    /// Marks requests that exceeded the timeout as lost. Their replies may still arrive late.
    pub(super) fn expire(&mut self, now: u64, timeout: u64, tally: &mut Tally) {
        for own in self.base..self.unsent {
            let request = self.requests[(own - self.base) as usize];
            if now.saturating_sub(request.sent) < timeout {
                break;
            }
            if !request.is_pending {
                continue;
            }
            if let Some(moments) = self.settle_untrimmed(own) {
                tally.add_lost(moments, now, LossReason::TimedOut, timeout);
                if self.timed_out.len() < TIMED_OUT_MAX {
                    self.timed_out.insert(own, moments);
                }
            }
        }
        self.trim();
    }

    /// Like [`Self::settle`], but without trimming, for use during iteration.
    fn settle_untrimmed(&mut self, own: u64) -> Option<Moments> {
        let request = self.requests.get_mut((own - self.base) as usize)?;
        request.is_pending = false;
        self.in_flight -= 1;
        let (due, sent) = (request.due, Some(request.sent));
        Some(Moments { due, sent })
    }

    /// Marks all requests as lost. Those that exceeded the timeout have timed out; for the others the reason is `reason`.
    pub(super) fn abandon(
        &mut self,
        now: u64,
        timeout: u64,
        reason: LossReason,
        tally: &mut Tally,
    ) {
        self.expire(now, timeout, tally);
        for own in self.base..self.base + self.requests.len() as u64 {
            let request = self.requests[(own - self.base) as usize];
            if request.is_pending {
                let sent = (own < self.unsent).then_some(request.sent);
                let due = request.due;
                tally.add_lost(Moments { due, sent }, now, reason, timeout);
            }
        }
        self.base += self.requests.len() as u64;
        self.requests.clear();
        self.unsent = self.base;
        self.in_flight = 0;
        self.timed_out.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::{expect::Expect, workload::Workload};

    const TIMEOUT: u64 = 1_000;

    struct Rig {
        flow: DatagramFlow,
        clock: Clock,
        workload: PreparedWorkload,
        tally: Tally,
    }

    impl Rig {
        fn new(message: &str, expect: &str) -> Self {
            let workload = Workload::one(message.parse().unwrap());
            let expect: Expect = expect.parse().unwrap();
            Self {
                // Socket 1 of 2: its request numbers are 1, 3, 5 …
                flow: DatagramFlow::new(1, 2),
                clock: Clock::starting(Duration::ZERO),
                workload: PreparedWorkload::new(&workload, &expect, None, 0),
                tally: Tally::new(0, u64::MAX),
            }
        }

        fn send(&mut self, count: u64, now: u64) {
            for _ in 0..count {
                self.tally.add_queued(now, 0);
                self.flow.queue(now, now);
                assert!(self.flow.unsent(&self.clock, &self.workload).is_some());
                self.flow.sent(now, true, &self.workload, &mut self.tally);
            }
        }

        fn receive(&mut self, reply: &str, now: u64) {
            self.flow.received(
                reply.as_bytes(),
                now,
                &self.clock,
                &self.workload,
                &mut self.tally,
            );
        }
    }

    #[test]
    fn datagram_outcomes_are_distinguished() {
        let mut rig = Rig::new("hello {seq}", "upper");
        rig.send(8, 0);
        rig.receive("HELLO 3", 5);
        rig.receive("HELLO 1", 6);
        rig.receive("HELLO 1", 7);
        rig.receive("HELLO 5x", 8);
        rig.receive("HELLO 7 and more", 9);
        rig.receive("hello 9", 10);
        rig.receive("HELLO 2", 11);
        rig.receive("HELLO 99", 12);
        rig.receive("garbage", 13);
        rig.flow.expire(TIMEOUT, TIMEOUT, &mut rig.tally);
        rig.receive("HELLO 11", TIMEOUT + 1);
        rig.flow
            .abandon(TIMEOUT + 2, TIMEOUT, LossReason::Pending, &mut rig.tally);
        let tally = &rig.tally;
        // There are no replies to 13 and 15.
        assert_eq!(
            (tally.sent, tally.ok, tally.wrong, tally.late, tally.lost),
            (8, 2, 3, 1, 2)
        );
        assert_eq!(
            (
                tally.outcomes.duplicate,
                tally.outcomes.reordered,
                tally.failures.extra
            ),
            (1, 1, 3)
        );
        assert_eq!(tally.failures.timed_out, 2);
        assert_eq!(tally.due.len(), 8);
    }

    #[test]
    fn truncated_reply_counts_as_truncated_and_wrong() {
        let mut rig = Rig::new("{seq} hello", "echo");
        rig.send(1, 0);
        rig.receive("1 hel", 5);
        assert_eq!((rig.tally.wrong, rig.tally.outcomes.truncated), (1, 1));
        assert_eq!(rig.tally.samples[0].expected, b"1 hello");
    }

    #[test]
    fn reply_without_number_matches_the_oldest_request_it_fits() {
        let mut rig = Rig::new("ping", "exact:pong");
        rig.send(2, 0);
        rig.receive("pong", 5);
        rig.receive("pang", 6);
        rig.receive("pong", 7);
        assert_eq!(
            (rig.tally.ok, rig.tally.wrong, rig.tally.failures.extra),
            (1, 1, 1)
        );
    }
}
