//! Search for the highest rate that meets the objectives: doubling until a trial fails, bisection, then a longer
//! confirmation.
//!
//! Short trials early and a long one last is the idea of `MLRsearch` (draft-ietf-bmwg-mlrsearch). The search
//! has no clock and no socket: it returns the next rate and takes the outcome. A rate that held stays a result, whatever
//! the generator could not do later.

/// State of a search.
#[derive(Clone, Debug)]
pub struct Search {
    within: f64,
    /// Highest rate that passed; 0 before any.
    low: f64,
    /// Lowest rate that failed.
    high: Option<f64>,
    next: SearchStep,
    trials: u32,
    /// Number of trials in which the generator was the limit; the confirmations are counted anew.
    inconclusive: u32,
    /// The current step repeats one in which the generator was the limit.
    is_retry: bool,
    /// Rates that passed a trial.
    passed: Vec<f64>,
}

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Requests per second.
    pub rate: f64,
    /// Whether it passed the confirmation. Otherwise it passed a trial, and the generator was the limit, or the search was
    /// stopped, before it was confirmed.
    pub is_confirmed: bool,
}

/// Next step of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SearchStep {
    /// Run a short trial at this rate.
    Trial(f64),
    /// Run a long confirmation at this rate.
    Confirm(f64),
    /// The search has ended with this rate, if any.
    Done(Option<Found>),
}

/// Outcome of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialOutcome {
    /// The objectives were met.
    Passed,
    /// The objectives were not met.
    Failed,
    /// The generator could not produce the load, so the trial gives no information on the server. It is repeated once; if
    /// that helps nothing, no higher rate is tried.
    Inconclusive,
}

/// Maximum number of trials, after which the search does not converge.
const TRIALS_MAX: u32 = 60;
/// Lowest rate to try, in requests per second.
const RATE_MIN: f64 = 1.0;
/// Highest rate to try, in requests per second.
const RATE_MAX: f64 = 1e8;
/// Maximum number of inconclusive trials, and of inconclusive confirmations. On a busy machine the generator is late now and
/// then; more often, the search cannot succeed.
const INCONCLUSIVE_MAX: u32 = 3;
/// Factor for the next rate after a failed confirmation.
const STEP_DOWN: f64 = 0.95;

impl Search {
    /// Creates a search that starts at `start` requests per second and ends at a relative precision of `within`.
    pub fn new(start: f64, within: f64) -> Self {
        Self {
            within: within.clamp(0.001, 1.0),
            low: 0.0,
            high: None,
            next: SearchStep::Trial(start.clamp(RATE_MIN, RATE_MAX)),
            trials: 0,
            inconclusive: 0,
            is_retry: false,
            passed: Vec::new(),
        }
    }

    /// Returns the next step.
    pub fn next_step(&self) -> SearchStep {
        self.next
    }

    /// Returns the highest rate that held so far, unconfirmed.
    pub fn held(&self) -> Option<Found> {
        self.passed
            .iter()
            .copied()
            .max_by(f64::total_cmp)
            .map(|rate| Found {
                rate,
                is_confirmed: false,
            })
    }

    /// Returns whether `rate` passed a trial, and no confirmation contradicts it.
    pub(super) fn is_held(&self, rate: f64) -> bool {
        self.passed
            .iter()
            .any(|passed| passed.total_cmp(&rate).is_eq())
    }

    /// Records the outcome of the current step.
    pub fn record(&mut self, outcome: TrialOutcome) {
        self.trials += 1;
        let step = self.next;
        self.next = match (step, outcome) {
            (SearchStep::Done(_), _) => step,
            (step, TrialOutcome::Inconclusive) => self.after_inconclusive(step),
            (SearchStep::Trial(rate), TrialOutcome::Passed) => {
                self.low = self.low.max(rate);
                self.passed.push(rate);
                self.after_trial()
            }
            (SearchStep::Trial(rate), TrialOutcome::Failed) => {
                self.high = Some(rate);
                self.after_trial()
            }
            (SearchStep::Confirm(rate), TrialOutcome::Passed) => SearchStep::Done(Some(Found {
                rate,
                is_confirmed: true,
            })),
            (SearchStep::Confirm(rate), TrialOutcome::Failed) => {
                // The longer run is the better evidence.
                self.passed.retain(|passed| *passed < rate);
                self.confirm_lower(rate)
            }
        };
        self.is_retry = self.next == step;
    }

    /// Repeats the step once, then goes on as if the rate had failed, until that was needed too often: lower rates would only
    /// measure the generator.
    fn after_inconclusive(&mut self, step: SearchStep) -> SearchStep {
        self.inconclusive += 1;
        let is_too_often = self.inconclusive > INCONCLUSIVE_MAX;
        match step {
            SearchStep::Trial(_) if is_too_often => self.confirm_or_give_up(),
            SearchStep::Confirm(_) if is_too_often => SearchStep::Done(self.held()),
            SearchStep::Trial(_) | SearchStep::Confirm(_) if !self.is_retry => step,
            SearchStep::Trial(rate) => {
                self.high = Some(rate);
                self.after_trial()
            }
            SearchStep::Confirm(rate) => self.confirm_lower(rate),
            SearchStep::Done(_) => step,
        }
    }

    fn confirm(&mut self, rate: f64) -> SearchStep {
        self.inconclusive = 0;
        SearchStep::Confirm(rate)
    }

    fn confirm_lower(&mut self, rate: f64) -> SearchStep {
        let lower = rate * STEP_DOWN;
        if lower >= RATE_MIN && self.trials < TRIALS_MAX {
            SearchStep::Confirm(lower)
        } else {
            SearchStep::Done(self.held())
        }
    }

    fn confirm_or_give_up(&mut self) -> SearchStep {
        if self.low > 0.0 {
            self.confirm(self.low)
        } else {
            SearchStep::Done(None)
        }
    }

    fn after_trial(&mut self) -> SearchStep {
        match self.high {
            None if self.low >= RATE_MAX => self.confirm(self.low),
            None => SearchStep::Trial((self.low * 2.0).min(RATE_MAX)),
            Some(_) if self.trials >= TRIALS_MAX && self.low > 0.0 => self.confirm(self.low),
            Some(high) if self.low > 0.0 && high <= self.low * (1.0 + self.within) => {
                self.confirm(self.low)
            }
            Some(high) if self.low > 0.0 => SearchStep::Trial((self.low * high).sqrt()),
            Some(high) if high / 2.0 >= RATE_MIN => SearchStep::Trial(high / 2.0),
            Some(_) => SearchStep::Done(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn found(
        start: f64,
        within: f64,
        mut trial: impl FnMut(f64, bool) -> TrialOutcome,
    ) -> (Option<Found>, u32) {
        let mut search = Search::new(start, within);
        for _ in 0..200 {
            match search.next_step() {
                SearchStep::Done(found) => return (found, search.trials),
                SearchStep::Trial(rate) => search.record(trial(rate, false)),
                SearchStep::Confirm(rate) => search.record(trial(rate, true)),
            }
        }
        panic!("the search does not end");
    }

    proptest! {
        #[test]
        fn sharp_limit_is_found_from_any_start(limit in 1.0_f64..1e7, start in 1.0_f64..1e7) {
            let (rate, trials) = found(start, 0.05, |rate, _| if rate <= limit { TrialOutcome::Passed } else { TrialOutcome::Failed });
            let rate = rate.unwrap().rate;
            prop_assert!(rate <= limit && rate * 1.05 >= limit, "{rate} of {limit}");
            prop_assert!(trials < 40);
        }

        #[test]
        fn search_terminates_for_any_answers(answers in prop::collection::vec(0..3, 1..100), start in 1.0_f64..1e7) {
            let mut answers = answers.iter().cycle();
            found(start, 0.05, |_, _| match answers.next() {
                Some(0) => TrialOutcome::Passed,
                Some(1) => TrialOutcome::Failed,
                _ => TrialOutcome::Inconclusive,
            });
        }
    }

    /// Regression: the search went down to 1 request/s, in steps of 5 % of ten seconds each.
    #[test]
    fn search_ends_when_the_generator_cannot_keep_up() {
        assert_eq!(
            found(1000.0, 0.05, |_, _| TrialOutcome::Inconclusive),
            (None, 4)
        );
        let confirming = |_, confirm| {
            if confirm {
                TrialOutcome::Inconclusive
            } else {
                TrialOutcome::Passed
            }
        };
        let unconfirmed = |rate| {
            Some(Found {
                rate,
                is_confirmed: false,
            })
        };
        assert_eq!(found(1e8, 0.05, confirming), (unconfirmed(1e8), 5));
        let late_once = |rate, _| match rate {
            1000.0 => TrialOutcome::Inconclusive,
            rate if rate < 800.0 => TrialOutcome::Passed,
            _ => TrialOutcome::Failed,
        };
        assert!(found(1000.0, 0.05, late_once).0.is_some());
    }

    /// Regression: the search forgot the rates that had passed as soon as the generator fell short too often.
    #[test]
    fn rate_that_held_is_kept_when_the_generator_falls_short_later() {
        let short_above = |limit: f64| {
            move |rate: f64, confirm: bool| {
                if rate <= limit && !confirm {
                    TrialOutcome::Passed
                } else {
                    TrialOutcome::Inconclusive
                }
            }
        };
        for limit in [1_000.0, 5_000.0, 77_000.0] {
            let kept = found(1000.0, 0.05, short_above(limit)).0.unwrap();
            assert!(!kept.is_confirmed, "{kept:?}");
            assert!(
                kept.rate <= limit && kept.rate * 2.0 >= limit,
                "{kept:?} of {limit}"
            );
        }
        // The generator falls short above 20,000 alone: the rate below is confirmed.
        let (confirmed, _) = found(1000.0, 0.05, |rate, _| match rate {
            ..=20_000.0 => TrialOutcome::Passed,
            _ => TrialOutcome::Inconclusive,
        });
        let confirmed = confirmed.unwrap();
        assert!(confirmed.is_confirmed && confirmed.rate >= 10_000.0);
    }

    #[test]
    fn step_in_which_the_generator_was_late_once_is_repeated() {
        for late in 0..8 {
            let mut step = 0;
            let (rate, _) = found(1000.0, 0.05, |rate, _| {
                step += 1;
                match rate {
                    _ if step == late => TrialOutcome::Inconclusive,
                    ..=4_000.0 => TrialOutcome::Passed,
                    _ => TrialOutcome::Failed,
                }
            });
            let found = rate.unwrap();
            assert!(
                found.is_confirmed && found.rate * 1.05 >= 4_000.0,
                "{late}: {found:?}"
            );
        }
    }

    #[test]
    fn rate_above_a_failed_confirmation_is_not_kept() {
        let (rate, _) = found(1000.0, 0.05, |rate, confirm| match rate {
            _ if confirm && rate > 3_000.0 => TrialOutcome::Failed,
            _ if confirm => TrialOutcome::Inconclusive,
            ..=4_000.0 => TrialOutcome::Passed,
            _ => TrialOutcome::Failed,
        });
        assert!(rate.unwrap().rate <= 3_000.0, "{rate:?}");
    }

    #[test]
    fn search_finds_nothing_if_no_rate_passes() {
        assert_eq!(found(1000.0, 0.05, |_, _| TrialOutcome::Failed).0, None);
    }

    #[test]
    fn rate_that_fails_confirmation_is_retried_lower() {
        let (rate, _) = found(1000.0, 0.05, |rate, confirm| {
            let limit = if confirm { 3_500.0 } else { 4_000.0 };
            if rate <= limit {
                TrialOutcome::Passed
            } else {
                TrialOutcome::Failed
            }
        });
        let Found { rate, is_confirmed } = rate.unwrap();
        assert!(is_confirmed);
        assert!((3_200.0..=3_500.0).contains(&rate), "{rate}");
    }

    /// A queue with one server: exponential gaps, exponential service of 4,000 a second. The share of those served within 5
    /// ms is 1 - exp(-(4000 - rate) * 0.005), so p99 is 5 ms at 3,079 a second exactly.
    fn p99_of_a_queue(rate: f64, seconds: f64, random: &mut SmallRng) -> f64 {
        let mut exponential = |mean: f64| -(1.0 - random.random::<f64>()).ln() * mean;
        let (mut now, mut free, mut latencies) = (0.0, 0.0_f64, Vec::new());
        while now < seconds {
            now += exponential(1.0 / rate);
            free = free.max(now) + exponential(1.0 / 4_000.0);
            // The first fifth is not counted.
            if now > seconds / 5.0 {
                latencies.push(free - now);
            }
        }
        latencies.sort_by(f64::total_cmp);
        latencies[latencies.len() * 99 / 100]
    }

    #[test]
    fn capacity_of_a_simulated_queue_is_found() {
        let errors = (0..12).map(|seed| {
            let mut random = SmallRng::seed_from_u64(seed);
            let (rate, _) = found(1000.0, 0.05, |rate, confirm| {
                let seconds = if confirm { 10.0 } else { 2.0 };
                let p99 = p99_of_a_queue(rate, seconds, &mut random);
                if p99 < 0.005 {
                    TrialOutcome::Passed
                } else {
                    TrialOutcome::Failed
                }
            });
            rate.unwrap().rate / 3_079.0 - 1.0
        });
        let errors: Vec<f64> = errors.collect();
        // After a confirmation of ten seconds it is hardly ever too high.
        assert!(
            errors.iter().all(|error| (-0.15..0.05).contains(error)),
            "{errors:?}"
        );
        let mean = errors.iter().sum::<f64>() / 12.0;
        assert!((-0.08..0.02).contains(&mean), "{mean}");
    }
}
