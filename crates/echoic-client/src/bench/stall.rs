//! Detects stalls: times in which requests waited and no reply came at all.

use std::{fmt, time::Duration};

/// Shortest time without a reply that counts as a stall, in nanoseconds. A shorter one shows in the latencies.
const STALL_MIN_NS: u64 = 1_000_000_000;
/// Longest time between two observations, in nanoseconds. After a longer one the generator itself stood still, so that
/// nothing is known about the server.
const BLIND_MAX_NS: u64 = 500_000_000;

/// The longest time in a run in which requests waited and no reply came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Start, counted from the start of the window. A stall that began in the warm-up starts at 0.
    pub start: Duration,
    /// Length within the window.
    pub length: Duration,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, start) = (self.length.as_secs_f64(), self.start.as_secs_f64());
        write!(
            f,
            "no reply for {length:.1} s, {start:.1} s after the start"
        )
    }
}

/// Tracks the longest stall of one thread. Times are nanoseconds of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StallTracker {
    /// Since when requests have been waiting without a reply.
    since: u64,
    last_reply: u64,
    observed: u64,
    /// Start and end of the longest stall so far.
    longest: (u64, u64),
}

/// Tracks the longest time in which a thread of the generator did not run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StandstillTracker {
    observed: Option<u64>,
    /// Its start and end.
    longest: (u64, u64),
}

impl StandstillTracker {
    /// Notes that the thread runs at `now`. It is called every few milliseconds, whatever the load.
    pub(super) fn observe(&mut self, now: u64) {
        let since = self.observed.replace(now).unwrap_or(now);
        let (start, end) = self.longest;
        if now.saturating_sub(since) > end - start {
            self.longest = (since, now);
        }
    }

    /// Returns the start and end of the longest one.
    pub(super) fn longest(&self) -> (u64, u64) {
        self.longest
    }
}

/// Returns the longest standstill of a thread after `from`, if it is long enough to distort the figures. That of one thread
/// is one of the generator.
pub(super) fn standstill(threads: impl Iterator<Item = (u64, u64)>, from: u64) -> Option<Stall> {
    let after = threads.map(|(start, end)| (start.max(from), end.max(from)));
    let (start, end) = after.max_by_key(|(start, end)| end.saturating_sub(*start))?;
    let length = end.saturating_sub(start);
    (length > BLIND_MAX_NS).then(|| Stall {
        start: Duration::from_nanos(start - from),
        length: Duration::from_nanos(length),
    })
}

impl StallTracker {
    /// Notes the state at `now`: the time of the last reply, and whether anything waits for one.
    pub(super) fn observe(&mut self, now: u64, last_reply: u64, is_waiting: bool) {
        let is_blind = now.saturating_sub(self.observed) > BLIND_MAX_NS;
        if last_reply != self.last_reply && !is_blind {
            self.extend(last_reply);
            self.since = last_reply;
        }
        if !is_waiting || is_blind {
            self.since = now;
        }
        self.last_reply = last_reply;
        self.observed = now;
        self.extend(now);
    }

    fn extend(&mut self, until: u64) {
        let (start, end) = self.longest;
        if until.saturating_sub(self.since) > end - start {
            self.longest = (self.since, until);
        }
    }

    /// Returns how long requests have been waiting without a reply.
    pub(super) fn current(&self, now: u64) -> u64 {
        now.saturating_sub(self.since)
    }

    /// Returns the start and end of the longest stall.
    pub(super) fn longest(&self) -> (u64, u64) {
        self.longest
    }
}

/// Returns the stall that all threads have in common within the window, if it is long enough.
pub(super) fn common(
    threads: impl Iterator<Item = (u64, u64)>,
    from: u64,
    until: u64,
) -> Option<Stall> {
    let window = (from, until);
    let (start, end) = threads.fold(window, |(start, end), (from, until)| {
        (start.max(from), end.min(until))
    });
    let length = end.saturating_sub(start);
    (length >= STALL_MIN_NS).then(|| Stall {
        start: Duration::from_nanos(start.saturating_sub(from)),
        length: Duration::from_nanos(length),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Observes every 10 ms; `reply` returns the time of the last reply, in milliseconds.
    fn longest(reply: impl Fn(u64) -> u64, is_waiting: impl Fn(u64) -> bool) -> (u64, u64) {
        let mut tracker = StallTracker::default();
        for now in (0..10_000).step_by(10) {
            tracker.observe(now * MS, reply(now) * MS, is_waiting(now));
        }
        let (start, end) = tracker.longest();
        (start / MS, end / MS)
    }

    #[test]
    fn stall_lasts_from_one_reply_to_the_next() {
        let frozen = |now| {
            if (2_003..5_008).contains(&now) {
                2_003
            } else {
                now
            }
        };
        assert_eq!(longest(frozen, |_| true), (2_003, 5_010));
        let ends_mute = |now: u64| now.min(7_001);
        assert_eq!(longest(ends_mute, |_| true), (7_001, 9_990));
    }

    #[test]
    fn time_without_requests_is_no_stall() {
        let frozen = |now| {
            if (2_000..5_000).contains(&now) {
                2_000
            } else {
                now
            }
        };
        let (start, end) = longest(frozen, |now| !(2_000..4_500).contains(&now));
        assert!(end - start <= 510, "{start} to {end}");
    }

    #[test]
    fn time_in_which_the_generator_stood_still_is_no_stall() {
        let mut tracker = StallTracker::default();
        tracker.observe(10 * MS, 10 * MS, true);
        tracker.observe(4_000 * MS, 10 * MS, true);
        tracker.observe(4_010 * MS, 10 * MS, true);
        // A reply that waited for us is read at once.
        tracker.observe(8_000 * MS, 7_999 * MS, true);
        tracker.observe(8_010 * MS, 8_005 * MS, true);
        let (start, end) = tracker.longest();
        assert!(end - start <= 10 * MS, "{start} to {end}");
    }

    #[test]
    fn standstill_is_the_longest_of_any_thread_after_the_warmup() {
        let mut tracker = StandstillTracker::default();
        for ms in [20, 30, 40, 2_040, 2_050, 2_060] {
            tracker.observe(ms * MS);
        }
        assert_eq!(tracker.longest(), (40 * MS, 2_040 * MS));
        let found = |threads: &[(u64, u64)], from| {
            let threads = threads.iter().map(|(a, b)| (a * MS, b * MS));
            standstill(threads, from * MS)
                .map(|stall| (stall.start.as_millis(), stall.length.as_millis()))
        };
        assert_eq!(
            found(&[(40, 2_040), (50, 60)], 1_000),
            Some((0, 1_040)),
            "in part in the warm-up"
        );
        assert_eq!(found(&[(40, 2_040)], 3_000), None);
        assert_eq!(found(&[(1_040, 1_500), (0, 0)], 1_000), None, "short");
        assert_eq!(
            found(&[(1_100, 1_200), (1_500, 3_000)], 1_000),
            Some((500, 1_500))
        );
    }

    #[test]
    fn stall_is_one_of_all_threads_and_of_the_window() {
        let seconds = |from: u64, until: u64| (from * 1_000 * MS, until * 1_000 * MS);
        let window = |threads: &[(u64, u64)]| {
            common(threads.iter().copied(), 1_000 * MS, 9_000 * MS)
                .map(|stall| (stall.start.as_secs(), stall.length.as_secs()))
        };
        assert_eq!(window(&[seconds(2, 5)]), Some((1, 3)));
        assert_eq!(window(&[seconds(0, 5), seconds(3, 6)]), Some((2, 2)));
        assert_eq!(window(&[seconds(0, 5), seconds(6, 8)]), None);
        assert_eq!(window(&[seconds(2, 5), (0, 0)]), None);
        assert_eq!(window(&[seconds(0, 1)]), None);
        let stall = Stall {
            start: Duration::from_millis(2_140),
            length: Duration::from_secs(3),
        };
        assert_eq!(
            stall.to_string(),
            "no reply for 3.0 s, 2.1 s after the start"
        );
    }
}
