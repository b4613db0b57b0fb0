//! What one socket of datagrams has said and waits for. Replies come in any order, twice, late or not at all.

use std::collections::{BTreeMap, VecDeque};

use super::{
    clock::Clock,
    seen::{Arrival, Seen},
    stream::sample,
    tally::{Moments, Reply, Tally, Why},
    template::Blanks,
    workload::{Said, Script},
};

/// Requests that timed out and are remembered, in case their reply comes late.
const OVERDUE_MAX: usize = 1 << 20;
/// Requests looked at for one that a reply without a number fits.
const LOOKED_AT_MAX: usize = 256;

/// The requests of one socket from being asked to being answered. Bytes and times come in as arguments.
#[derive(Debug)]
pub(super) struct Flow {
    number: u32,
    /// Sockets of the whole plan: the numbers of requests go round them.
    sockets: u64,
    /// Requests from number `base` on, by their number on this socket.
    slots: VecDeque<Slot>,
    base: u64,
    /// The next one to be sent; those from there on wait.
    unsent: u64,
    in_flight: usize,
    seen: Seen,
    /// Timed out, with when they were due.
    overdue: BTreeMap<u64, Moments>,
    request: Vec<u8>,
    /// The kind of the one rendered there last.
    kind: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    due: u64,
    /// When it left; until then, when it was asked.
    sent: u64,
    is_out: bool,
}

impl Flow {
    /// Of socket `number` among `sockets`.
    pub(super) fn new(number: u32, sockets: u64) -> Self {
        Self {
            number,
            sockets,
            slots: VecDeque::new(),
            base: 0,
            unsent: 0,
            in_flight: 0,
            seen: Seen::default(),
            overdue: BTreeMap::new(),
            request: Vec::new(),
            kind: 0,
        }
    }

    /// Requests asked and not settled.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Replies that may still come: to what is in flight, and late ones.
    pub(super) fn awaited(&self) -> usize {
        self.in_flight + self.overdue.len()
    }

    /// Queues a request.
    pub(super) fn ask(&mut self, due: u64, now: u64) {
        self.slots.push_back(Slot {
            due,
            sent: now,
            is_out: true,
        });
        self.in_flight += 1;
    }

    /// The next datagram to be sent.
    pub(super) fn unsent(&mut self, clock: &Clock, script: &Script) -> Option<&[u8]> {
        let slot = *self.slots.get((self.unsent - self.base) as usize)?;
        self.kind = self.render(self.unsent, slot.due, clock, script).kind;
        Some(&self.request)
    }

    /// It was taken by the kernel, or refused for good.
    pub(super) fn left(&mut self, now: u64, taken: bool, script: &Script, tally: &mut Tally) {
        let index = (self.unsent - self.base) as usize;
        self.unsent += 1;
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let due = slot.due;
        if !taken {
            slot.is_out = false;
            self.in_flight -= 1;
            tally.failures.not_sent += 1;
            let never = Moments { due, sent: None };
            tally.given_up(never, now, Why::Cut, 0);
            return;
        }
        slot.sent = now;
        tally.sent(due, now, self.request.len() as u64);
        if !script.expect(self.kind).waits() {
            slot.is_out = false;
            self.in_flight -= 1;
            tally.done_by_sending(due, now);
        }
    }

    fn render(&mut self, own: u64, due: u64, clock: &Clock, script: &Script) -> Said {
        self.request.clear();
        let blanks = Blanks {
            number: own * self.sockets + u64::from(self.number),
            connection: self.number,
            unix_nanos: clock.unix_nanos(due),
            seed: script.seed(),
        };
        script.say(&blanks, &mut self.request)
    }

    /// A datagram came.
    pub(super) fn heard(
        &mut self,
        reply: &[u8],
        now: u64,
        clock: &Clock,
        script: &Script,
        tally: &mut Tally,
    ) {
        let Some(own) = self.whose(reply, clock, script) else {
            tally.failures.extra += 1;
            return;
        };
        let arrival = self.seen.arrive(own);
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
            None => match self.overdue.remove(&own) {
                Some(moments) => (moments, true),
                None => return,
            },
        };
        let said = self.render(own, moments.due, clock, script);
        let met = script.is_met(said.kind, &self.request, reply);
        let how = match (met, is_late) {
            (true, false) => Reply::Ok,
            (false, false) => Reply::Wrong,
            (_, true) => Reply::Late,
        };
        tally.answered(moments, now, how, reply.len() as u64);
        if !met && !is_late {
            let expected = script.expect(said.kind).reply(&self.request);
            let cut =
                expected.is_some_and(|whole| whole.len() > reply.len() && whole.starts_with(reply));
            if cut && tally.counts(moments.due) {
                tally.outcomes.truncated += 1;
            }
            let number = own * self.sockets + u64::from(self.number);
            let request = &self.request;
            tally.sample(|| sample(self.number, number, request, reply, script, said.kind));
        }
    }

    /// Which request a reply belongs to: by the number within it; where there is none, the oldest it fits, or the oldest.
    fn whose(&mut self, reply: &[u8], clock: &Clock, script: &Script) -> Option<u64> {
        if let Some(number) = script.number_in(reply) {
            let own = number / self.sockets;
            let is_ours = number % self.sockets == u64::from(self.number) && own < self.unsent;
            return is_ours.then_some(own);
        }
        if script.is_numbered() {
            return None;
        }
        let sent = self.base..self.unsent;
        let out = |flow: &Self, own: &u64| flow.slots[(own - flow.base) as usize].is_out;
        let candidates: Vec<u64> = sent
            .filter(|own| out(self, own))
            .take(LOOKED_AT_MAX)
            .collect();
        let fits = candidates.iter().copied().find(|own| {
            let due = self.slots[(own - self.base) as usize].due;
            let said = self.render(*own, due, clock, script);
            script.is_met(said.kind, &self.request, reply)
        });
        fits.or_else(|| candidates.first().copied())
    }

    fn settle(&mut self, own: u64) -> Option<Moments> {
        let index = own.checked_sub(self.base)? as usize;
        let slot = self.slots.get_mut(index).filter(|slot| slot.is_out)?;
        slot.is_out = false;
        self.in_flight -= 1;
        let moments = Moments {
            due: slot.due,
            sent: Some(slot.sent),
        };
        self.trim();
        Some(moments)
    }

    fn trim(&mut self) {
        while self.base < self.unsent
            && let Some(slot) = self.slots.front()
            && !slot.is_out
        {
            self.slots.pop_front();
            self.base += 1;
        }
    }

    /// Gives up what has been out for the time-out. Its reply may still come, late.
    pub(super) fn check(&mut self, now: u64, timeout: u64, tally: &mut Tally) {
        for own in self.base..self.unsent {
            let slot = self.slots[(own - self.base) as usize];
            if now.saturating_sub(slot.sent) < timeout {
                break;
            }
            if !slot.is_out {
                continue;
            }
            if let Some(moments) = self.settle_at(own) {
                tally.given_up(moments, now, Why::TimedOut, timeout);
                if self.overdue.len() < OVERDUE_MAX {
                    self.overdue.insert(own, moments);
                }
            }
        }
        self.trim();
    }

    /// As [`Self::settle`], while others are being looked at.
    fn settle_at(&mut self, own: u64) -> Option<Moments> {
        let slot = self.slots.get_mut((own - self.base) as usize)?;
        slot.is_out = false;
        self.in_flight -= 1;
        let (due, sent) = (slot.due, Some(slot.sent));
        Some(Moments { due, sent })
    }

    /// Gives everything up. Those that were out for the time-out have timed out, for the others `why` is the reason.
    pub(super) fn give_up(&mut self, now: u64, timeout: u64, why: Why, tally: &mut Tally) {
        self.check(now, timeout, tally);
        for own in self.base..self.base + self.slots.len() as u64 {
            let slot = self.slots[(own - self.base) as usize];
            if slot.is_out {
                let sent = (own < self.unsent).then_some(slot.sent);
                let due = slot.due;
                tally.given_up(Moments { due, sent }, now, why, timeout);
            }
        }
        self.base += self.slots.len() as u64;
        self.slots.clear();
        self.unsent = self.base;
        self.in_flight = 0;
        self.overdue.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::{expect::Expect, workload::Workload};

    const TIMEOUT: u64 = 1_000;

    struct Rig {
        flow: Flow,
        clock: Clock,
        script: Script,
        tally: Tally,
    }

    impl Rig {
        fn new(message: &str, expect: &str) -> Self {
            let workload = Workload::one(message.parse().unwrap());
            let expect: Expect = expect.parse().unwrap();
            Self {
                // Socket 1 of 2: its numbers are 1, 3, 5 …
                flow: Flow::new(1, 2),
                clock: Clock::starting(Duration::ZERO),
                script: Script::new(&workload, &expect, None, 0),
                tally: Tally::new(0, u64::MAX),
            }
        }

        fn send(&mut self, count: u64, now: u64) {
            for _ in 0..count {
                self.tally.asked(now, 0);
                self.flow.ask(now, now);
                assert!(self.flow.unsent(&self.clock, &self.script).is_some());
                self.flow.left(now, true, &self.script, &mut self.tally);
            }
        }

        fn hear(&mut self, reply: &str, now: u64) {
            self.flow.heard(
                reply.as_bytes(),
                now,
                &self.clock,
                &self.script,
                &mut self.tally,
            );
        }
    }

    #[test]
    fn datagram_outcomes_are_distinguished() {
        let mut rig = Rig::new("hello {seq}", "upper");
        rig.send(8, 0);
        rig.hear("HELLO 3", 5);
        rig.hear("HELLO 1", 6);
        rig.hear("HELLO 1", 7);
        rig.hear("HELLO 5x", 8);
        rig.hear("HELLO 7 and more", 9);
        rig.hear("hello 9", 10);
        rig.hear("HELLO 2", 11);
        rig.hear("HELLO 99", 12);
        rig.hear("garbage", 13);
        rig.flow.check(TIMEOUT, TIMEOUT, &mut rig.tally);
        rig.hear("HELLO 11", TIMEOUT + 1);
        rig.flow
            .give_up(TIMEOUT + 2, TIMEOUT, Why::Pending, &mut rig.tally);
        let tally = &rig.tally;
        // 13 and 15 never came.
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
        rig.hear("1 hel", 5);
        assert_eq!((rig.tally.wrong, rig.tally.outcomes.truncated), (1, 1));
        assert_eq!(rig.tally.samples[0].expected, b"1 hello");
    }

    #[test]
    fn reply_without_number_matches_the_oldest_request_it_fits() {
        let mut rig = Rig::new("ping", "exact:pong");
        rig.send(2, 0);
        rig.hear("pong", 5);
        rig.hear("pang", 6);
        rig.hear("pong", 7);
        assert_eq!(
            (rig.tally.ok, rig.tally.wrong, rig.tally.failures.extra),
            (1, 1, 1)
        );
    }
}
