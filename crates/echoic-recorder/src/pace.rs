//! When the next round of a recorder is committed.

use std::time::Duration;

use tokio::time::Instant;

/// Rounds that follow one another without a pause after a time without any: an opening, an exchange and the end of a
/// conversation, which come one after the other and are to be seen at once.
const BURST: u32 = 3;

/// Paces the rounds: one in a commit interval, and after a time without any up to [`BURST`] at once (the generic cell
/// rate algorithm of ITU-T I.371). So what comes to an idle recorder is committed at once, and under load there are no
/// more commits than one in an interval.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// When the next round would begin if there were no bursts.
    even: Instant,
}

impl Pace {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            even: Instant::now(),
        }
    }

    /// When the next round may begin, at the earliest.
    pub(crate) fn next(&self) -> Instant {
        let burst = self.interval * (BURST - 1);
        self.even.checked_sub(burst).unwrap_or(self.even)
    }

    /// Notes that a round began then and is committed now. The interval begins at its end: a slow store is not asked more
    /// often.
    pub(crate) fn committed(&mut self, began: Instant) {
        self.even = self.even.max(began) + self.interval + began.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The times at which rounds begin, in milliseconds, if there is always something to commit and a commit takes `cost`.
    async fn rounds(pace: &mut Pace, cost: Duration, count: usize) -> Vec<u128> {
        let start = Instant::now();
        let mut began = Vec::new();
        for _ in 0..count {
            sleep_until(pace.next()).await;
            let round = Instant::now();
            began.push(start.elapsed().as_millis());
            advance(cost).await;
            pace.committed(round);
        }
        began
    }

    #[tokio::test(start_paused = true)]
    async fn load_has_one_round_in_an_interval_after_a_burst() {
        let mut pace = Pace::new(20 * MS);
        assert_eq!(
            rounds(&mut pace, Duration::ZERO, 6).await,
            [0, 0, 0, 20, 40, 60]
        );
        // After a pause there is a burst again, and it is no longer than the first.
        advance(1000 * MS).await;
        assert_eq!(rounds(&mut pace, Duration::ZERO, 4).await, [0, 0, 0, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn interval_begins_at_the_end_of_a_commit() {
        let mut pace = Pace::new(20 * MS);
        let began = rounds(&mut pace, 5 * MS, 8).await;
        let apart: Vec<_> = began.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(apart[3..], [25, 25, 25, 25], "{began:?}");
    }
}
