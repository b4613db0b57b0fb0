//! Search for the highest rate that meets the objectives: doubling until a trial fails, bisection, then a longer
//! confirmation.
//!
//! Short trials early and a long one last is the idea of `MLRsearch` (draft-ietf-bmwg-mlrsearch). The search
//! has no clock and no socket: it returns the next rate and takes the outcome.

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
    /// Number of trials in which the generator was the limit.
    inconclusive: u32,
}

/// Next step of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SearchStep {
    /// Run a short trial at this rate.
    Trial(f64),
    /// Run a long confirmation at this rate.
    Confirm(f64),
    /// The search has ended with the confirmed rate, if any.
    Done(Option<f64>),
}

/// Outcome of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialOutcome {
    /// The objectives were met.
    Passed,
    /// The objectives were not met.
    Failed,
    /// The generator could not produce the load, so the trial gives no information on the server: no higher rate is tried.
    Inconclusive,
}

/// Maximum number of trials, after which the search does not converge.
const TRIALS_MAX: u32 = 60;
/// Lowest rate to try, in requests per second.
const RATE_MIN: f64 = 1.0;
/// Highest rate to try, in requests per second.
const RATE_MAX: f64 = 1e8;
/// Maximum number of inconclusive trials. On a busy machine the generator is late now and then; more often, the search
/// cannot succeed.
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
        }
    }

    /// Returns the next step.
    pub fn next_step(&self) -> SearchStep {
        self.next
    }

    /// Records the outcome of the current step.
    pub fn record(&mut self, outcome: TrialOutcome) {
        self.trials += 1;
        self.inconclusive += u32::from(outcome == TrialOutcome::Inconclusive);
        self.next = match self.next {
            // Lower rates would only measure the generator.
            SearchStep::Trial(_) | SearchStep::Confirm(_)
                if self.inconclusive > INCONCLUSIVE_MAX =>
            {
                SearchStep::Done(None)
            }
            SearchStep::Trial(rate) => {
                match outcome {
                    TrialOutcome::Passed => self.low = self.low.max(rate),
                    TrialOutcome::Failed | TrialOutcome::Inconclusive => self.high = Some(rate),
                }
                self.after_trial()
            }
            SearchStep::Confirm(rate) if outcome == TrialOutcome::Passed => {
                SearchStep::Done(Some(rate))
            }
            SearchStep::Confirm(rate)
                if rate * STEP_DOWN >= RATE_MIN && self.trials < TRIALS_MAX =>
            {
                SearchStep::Confirm(rate * STEP_DOWN)
            }
            SearchStep::Confirm(_) => SearchStep::Done(None),
            found @ SearchStep::Done(_) => found,
        };
    }

    fn after_trial(&self) -> SearchStep {
        match self.high {
            None if self.low >= RATE_MAX => SearchStep::Confirm(self.low),
            None => SearchStep::Trial((self.low * 2.0).min(RATE_MAX)),
            Some(_) if self.trials >= TRIALS_MAX && self.low > 0.0 => SearchStep::Confirm(self.low),
            Some(high) if self.low > 0.0 && high <= self.low * (1.0 + self.within) => {
                SearchStep::Confirm(self.low)
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
    ) -> (Option<f64>, u32) {
        let mut search = Search::new(start, within);
        for _ in 0..200 {
            match search.next_step() {
                SearchStep::Done(rate) => return (rate, search.trials),
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
            let rate = rate.unwrap();
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
        assert_eq!(found(1e8, 0.05, confirming), (None, 5));
        let late_once = |rate, _| match rate {
            1000.0 => TrialOutcome::Inconclusive,
            rate if rate < 800.0 => TrialOutcome::Passed,
            _ => TrialOutcome::Failed,
        };
        assert!(found(1000.0, 0.05, late_once).0.is_some());
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
        let rate = rate.unwrap();
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
            rate.unwrap() / 3_079.0 - 1.0
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
