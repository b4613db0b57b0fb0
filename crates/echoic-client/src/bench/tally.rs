//! Counters of one thread during a run. The threads add up to [`Figures`](super::Figures).

use hdrhistogram::Histogram;

use super::figures::{
    DatagramOutcomes, Failures, Handshakes, SAMPLES_MAX, Sample, Second, latencies, rough_latencies,
};

/// Maximum number of separate seconds: one day. Later events count for the last one.
const SECONDS_MAX: usize = 86_400;
const SECOND: u64 = 1_000_000_000;

/// Counters of one thread. Requests due outside the window are not counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Start and end of the window in nanoseconds of the run.
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) asked: u64,
    pub(super) sent: u64,
    pub(super) ok: u64,
    pub(super) wrong: u64,
    pub(super) late: u64,
    pub(super) lost: u64,
    pub(super) unsent: u64,
    pub(super) done: u64,
    /// Time of the last reply.
    pub(super) last: u64,
    pub(super) failures: Failures,
    pub(super) handshakes: Handshakes,
    pub(super) outcomes: DatagramOutcomes,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) due: Histogram<u64>,
    pub(super) service: Histogram<u64>,
    pub(super) lag: Histogram<u64>,
    pub(super) seconds: Vec<Second>,
    pub(super) samples: Vec<Sample>,
}

/// Times of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moments {
    /// When it was due.
    pub(super) due: u64,
    /// When it was sent; `None` if the kernel has not accepted it yet.
    pub(super) sent: Option<u64>,
}

/// Result of checking a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// As expected, in time.
    Ok,
    /// Not as expected.
    Wrong,
    /// After the timeout.
    Late,
}

/// Reason why a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LossReason {
    /// It exceeded the timeout.
    TimedOut,
    /// Its connection ended.
    Cut,
    /// The run ended.
    Pending,
}

impl Tally {
    /// Creates empty counters for a window.
    pub(super) fn new(from: u64, until: u64) -> Self {
        Self {
            from,
            until,
            asked: 0,
            sent: 0,
            ok: 0,
            wrong: 0,
            late: 0,
            lost: 0,
            unsent: 0,
            done: 0,
            last: 0,
            failures: Failures::default(),
            handshakes: Handshakes::default(),
            outcomes: DatagramOutcomes::default(),
            bytes_sent: 0,
            bytes_received: 0,
            due: latencies(),
            service: latencies(),
            lag: latencies(),
            seconds: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Returns whether this time is within the window.
    pub(super) fn is_in_window(&self, moment: u64) -> bool {
        (self.from..self.until).contains(&moment)
    }

    /// Counts a connection that was opened, if it has TLS.
    pub(super) fn add_opened(&mut self, now: u64, is_resumed: Option<bool>) {
        match is_resumed.filter(|_| self.is_in_window(now)) {
            Some(true) => self.handshakes.resumed += 1,
            Some(false) => self.handshakes.full += 1,
            None => {}
        }
    }

    /// Counts a request given to a connection, `lag` later than possible.
    pub(super) fn add_queued(&mut self, due: u64, lag: u64) {
        if self.is_in_window(due) {
            self.asked += 1;
            self.lag.saturating_record(lag);
        }
    }

    /// Counts a request whose last byte the kernel accepted.
    pub(super) fn add_sent(&mut self, due: u64, now: u64, bytes: u64) {
        if self.is_in_window(due) {
            self.sent += 1;
            self.bytes_sent += bytes;
        }
        if self.is_in_window(now) {
            self.second(now).sent += 1;
        }
    }

    /// Counts a reply.
    pub(super) fn add_reply(&mut self, moments: Moments, now: u64, reply: Reply, bytes: u64) {
        let Moments { due, sent } = moments;
        self.last = self.last.max(now);
        let latency = now.saturating_sub(due);
        if self.is_in_window(now) {
            self.done += 1;
            let second = self.second(now);
            match reply {
                Reply::Ok | Reply::Late => second.ok += 1,
                Reply::Wrong => second.wrong += 1,
            }
            second.due.saturating_record(latency);
        }
        if !self.is_in_window(due) {
            return;
        }
        self.bytes_received += bytes;
        match reply {
            Reply::Ok => self.ok += 1,
            Reply::Wrong => self.wrong += 1,
            // The histograms already contain it, with the timeout as its latency.
            Reply::Late => {
                self.late += 1;
                self.lost = self.lost.saturating_sub(1);
                self.failures.timed_out = self.failures.timed_out.saturating_sub(1);
                return;
            }
        }
        self.due.saturating_record(latency);
        self.service
            .saturating_record(now.saturating_sub(sent.unwrap_or(due)));
    }

    /// Counts a request that is complete when sent, because no reply is expected.
    pub(super) fn add_done_when_sent(&mut self, due: u64, now: u64) {
        let sent = Some(now);
        self.add_reply(Moments { due, sent }, now, Reply::Ok, 0);
    }

    /// Counts a request lost at `now`; one that was never sent counts as unsent, whatever the reason.
    pub(super) fn add_lost(
        &mut self,
        moments: Moments,
        now: u64,
        reason: LossReason,
        timeout: u64,
    ) {
        let Moments { due, sent } = moments;
        if self.is_in_window(now) {
            self.second(now).lost += 1;
        }
        if !self.is_in_window(due) {
            return;
        }
        let Some(sent) = sent else {
            self.unsent += 1;
            self.due.saturating_record(now.saturating_sub(due));
            return;
        };
        self.lost += 1;
        match reason {
            LossReason::TimedOut => self.failures.timed_out += 1,
            LossReason::Cut => self.failures.cut += 1,
            LossReason::Pending => self.failures.pending += 1,
        }
        // Detected slightly later than it occurred, so the timeout itself is recorded.
        let latency = match reason {
            LossReason::TimedOut => timeout,
            LossReason::Cut | LossReason::Pending => now.saturating_sub(sent),
        };
        self.service.saturating_record(latency);
        self.due
            .saturating_record(latency + sent.saturating_sub(due));
    }

    /// Counts a request that found no free connection until the end, `now`.
    pub(super) fn add_unsent(&mut self, due: u64, now: u64) {
        if self.is_in_window(due) {
            self.asked += 1;
            self.unsent += 1;
            self.due.saturating_record(now.saturating_sub(due));
        }
    }

    /// Stores a sample of a wrong reply, up to the maximum.
    pub(super) fn add_sample(&mut self, sample: impl FnOnce() -> Sample) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(sample());
        }
    }

    fn second(&mut self, now: u64) -> &mut Second {
        let index = ((now.saturating_sub(self.from) / SECOND) as usize).min(SECONDS_MAX - 1);
        while self.seconds.len() <= index {
            self.seconds.push(Second::empty());
        }
        &mut self.seconds[index]
    }

    /// Adds the counters of another thread.
    pub(super) fn merge(&mut self, other: Self) {
        self.asked += other.asked;
        self.sent += other.sent;
        self.ok += other.ok;
        self.wrong += other.wrong;
        self.late += other.late;
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.done += other.done;
        self.last = self.last.max(other.last);
        self.until = self.until.max(other.until);
        self.failures.add(&other.failures);
        self.handshakes.full += other.handshakes.full;
        self.handshakes.resumed += other.handshakes.resumed;
        self.outcomes.add(&other.outcomes);
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        add(&mut self.due, &other.due);
        add(&mut self.service, &other.service);
        add(&mut self.lag, &other.lag);
        for (index, theirs) in other.seconds.into_iter().enumerate() {
            match self.seconds.get_mut(index) {
                Some(ours) => ours.add(&theirs),
                None => self.seconds.push(theirs),
            }
        }
        for sample in other.samples {
            self.add_sample(|| sample);
        }
    }
}

impl Second {
    pub(super) fn empty() -> Self {
        Self {
            sent: 0,
            ok: 0,
            wrong: 0,
            lost: 0,
            due: rough_latencies(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.wrong += other.wrong;
        self.lost += other.lost;
        add(&mut self.due, &other.due);
    }
}

impl Failures {
    fn add(&mut self, other: &Self) {
        self.timed_out += other.timed_out;
        self.cut += other.cut;
        self.pending += other.pending;
        self.extra += other.extra;
        self.closed += other.closed;
        self.reset += other.reset;
        self.refused += other.refused;
        self.no_port += other.no_port;
        self.reconnects += other.reconnects;
        self.not_sent += other.not_sent;
    }
}

impl DatagramOutcomes {
    fn add(&mut self, other: &Self) {
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.reordered_by = self.reordered_by.max(other.reordered_by);
        self.truncated += other.truncated;
        self.dropped_here += other.dropped_here;
    }
}

fn add(to: &mut Histogram<u64>, more: &Histogram<u64>) {
    to.add(more)
        .expect("invariant: both were made with the same bounds");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(due: u64, sent: u64) -> Moments {
        let sent = Some(sent);
        Moments { due, sent }
    }

    #[test]
    fn requests_due_outside_the_window_are_not_counted() {
        let mut tally = Tally::new(100, 200);
        for due in [99, 100, 199, 200] {
            tally.add_queued(due, 0);
            tally.add_sent(due, due, 1);
            tally.add_reply(moments(due, due), due + 5, Reply::Ok, 1);
        }
        assert_eq!((tally.asked, tally.sent, tally.ok), (2, 2, 2));
        // The replies to 99 and 100 arrived within the window, the one to 199 did not.
        assert_eq!(tally.done, 2);
    }

    #[test]
    fn timeout_is_recorded_at_its_value() {
        let mut tally = Tally::new(0, 10_000_000);
        tally.add_queued(1_000, 0);
        tally.add_sent(1_000, 3_000, 1);
        tally.add_lost(
            moments(1_000, 3_000),
            2_000_000,
            LossReason::TimedOut,
            1_000_000,
        );
        assert_eq!((tally.lost, tally.failures.timed_out), (1, 1));
        let near = |a: u64, b: u64| a.abs_diff(b) <= b / 500;
        assert!(near(tally.service.max(), 1_000_000));
        assert!(near(tally.due.max(), 1_002_000));
    }

    #[test]
    fn late_reply_counts_once_as_late_not_lost() {
        let mut tally = Tally::new(0, 1000);
        tally.add_queued(1, 0);
        tally.add_sent(1, 1, 1);
        tally.add_lost(moments(1, 1), 50, LossReason::TimedOut, 40);
        tally.add_reply(moments(1, 1), 90, Reply::Late, 1);
        assert_eq!(
            (tally.lost, tally.late, tally.failures.timed_out),
            (0, 1, 0)
        );
        assert_eq!((tally.due.len(), tally.service.len()), (1, 1));
    }

    #[test]
    fn unsent_request_waits_until_the_end() {
        let mut tally = Tally::new(0, 1_000_000);
        tally.add_unsent(0, 1_000_000);
        let waits = Moments { due: 0, sent: None };
        tally.add_queued(0, 0);
        tally.add_lost(waits, 1_000_000, LossReason::Cut, 1);
        assert_eq!(
            (tally.asked, tally.sent, tally.unsent, tally.lost),
            (2, 0, 2, 0)
        );
        assert_eq!(tally.due.len(), 2);
        assert!(tally.due.min() >= 999_000);
        assert_eq!(tally.service.len(), 0);
    }

    #[test]
    fn tallies_of_threads_are_summed() {
        let mut all = Tally::new(0, 3_000_000_000);
        for thread in 0..2 {
            let mut tally = Tally::new(0, 3_000_000_000);
            for second in 0..3 {
                let due = second * 1_000_000_000 + thread;
                tally.add_queued(due, 5);
                tally.add_sent(due, due, 10);
                tally.add_reply(moments(due, due), due + 7, Reply::Ok, 20);
            }
            all.merge(tally);
        }
        assert_eq!(
            (all.asked, all.ok, all.due.len(), all.seconds.len()),
            (6, 6, 6, 3)
        );
        assert_eq!(all.seconds[1].due.len(), 2);
        assert_eq!((all.bytes_sent, all.bytes_received), (60, 120));
    }
}
