//! A benchmark: a series of runs, and when it ends.

use std::time::Duration;

use thiserror::Error;

use super::{
    attempt::Purpose,
    compare::{Comparison, Other},
    figures::Figures,
    generator::{BenchError, LoadGenerator},
    guess::guess_unless_stopped,
    measured::{Measured, SearchResult},
    null::floor,
    observer::{Observer, StopSwitch},
    plan::{Arrivals, IndivisibleReplies, Length, Load, Plan, Run, Warmup},
    runner::{Runner, WARMUP_DIVISOR},
    search::{Found, Search, SearchStep, TrialOutcome},
    slo::Slo,
};

/// A first look: one connection in a closed loop, then several connections at a share of the rate that it reached.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const FIRST_CONNECTIONS: u32 = 8;
const FIRST_SHARE: f64 = 0.5;
const FIRST_LENGTH: Duration = Duration::from_secs(10);
/// Start rate of a search, in requests per second.
const SEARCH_FROM: f64 = 1000.0;
/// Default length of a repeat.
const REPEAT_LENGTH: Duration = Duration::from_secs(2);

/// One or more runs against one target, and the objectives they are checked against.
#[derive(Clone, Debug)]
pub struct Benchmark {
    /// The target and its protocol.
    pub plan: Plan,
    /// Sends one request first and derives the expectation from its reply, instead of [`Plan::expect`].
    pub guesses: bool,
    /// Measures first the latency of a server that does nothing.
    pub measures_floor: bool,
    /// Arrival process of the requests in steps, searches and first looks.
    pub arrivals: Arrivals,
    /// Which runs to make.
    pub runs: Runs,
    /// Objectives for each run.
    pub slo: Option<Slo>,
    /// Additional objectives for the last run.
    pub assert: Option<Slo>,
}

/// Which runs to make.
#[derive(Clone, Debug)]
pub enum Runs {
    /// One run.
    Once {
        /// When requests are due.
        load: Load,
        /// Length of the window.
        length: Length,
        /// Time before the window, which is not counted.
        warmup: Warmup,
    },
    /// One connection in a closed loop, then eight connections at half of its rate.
    FirstLook {
        /// Warm-up of the second run.
        warmup: Warmup,
    },
    /// A list of rates.
    Steps {
        /// Requests per second.
        rates: Vec<f64>,
        /// Length of each step; the first fifth is not counted.
        each: Duration,
    },
    /// A search for the highest rate that meets the objectives.
    Search {
        /// Length of one trial; the first fifth is not counted.
        trial: Duration,
        /// Length of the confirmation at the rate found.
        confirm: Duration,
        /// Precision of the search, as a share of the rate.
        within: f64,
    },
    /// The same run several times, alone or in turn with another endpoint (A B A B).
    Repeats {
        /// Number of repeats.
        count: u32,
        /// When requests are due.
        load: Load,
        /// Length of each repeat; 2 s by default.
        length: Option<Length>,
        /// Warm-up of each repeat; a fifth of 2 s by default.
        warmup: Option<Warmup>,
        /// Target or result to compare with.
        other: Option<Other>,
    },
}

/// Error that leaves a benchmark without a result.
#[derive(Debug, Error)]
pub enum BenchmarkError {
    /// A run failed.
    #[error(transparent)]
    Bench(BenchError),
    /// The boundaries of replies are unknown.
    #[error(transparent)]
    Indivisible(#[from] IndivisibleReplies),
    /// The list of rates is empty, or the number of repeats is 0.
    #[error("there are no runs to make")]
    NoRuns,
    /// It was stopped before the first result.
    #[error("stopped before the first result")]
    Stopped,
}

impl From<BenchError> for BenchmarkError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Stopped => Self::Stopped,
            error => Self::Bench(error),
        }
    }
}

impl Benchmark {
    /// Makes all runs, or ends early when `stop` is triggered. Blocks; `observer` receives the progress.
    pub fn run(
        &self,
        stop: &StopSwitch,
        observer: &dyn Observer,
    ) -> Result<Measured, BenchmarkError> {
        let mut plan = self.plan.clone();
        if self.guesses {
            plan.expect = guess_unless_stopped(&plan, &stop.handle())?;
        }
        plan.is_divisible()?;
        let floor = if self.measures_floor {
            floor(&plan)?
        } else {
            None
        };
        let runner = Runner {
            plan,
            floor,
            is_guessed: self.guesses,
            slo: self.slo.as_ref(),
            assert: self.assert.as_ref(),
            stop,
            observer,
            tries: Vec::new(),
        };
        match &self.runs {
            Runs::Once {
                load,
                length,
                warmup,
            } => {
                let mut generator = runner.open(&runner.plan)?;
                let run = runner.prepare_run(&mut generator, *warmup, load.clone(), *length)?;
                let figures = runner.run_once(&mut generator, &run)?;
                Ok(runner.into_measured(run, figures, None))
            }
            Runs::FirstLook { warmup } => Ok(self.first_look(runner, *warmup)?),
            Runs::Steps { rates, each } => self.steps(runner, rates, *each),
            Runs::Search {
                trial,
                confirm,
                within,
            } => self.search(runner, *trial, *confirm, *within),
            Runs::Repeats {
                count,
                load,
                length,
                warmup,
                other,
            } => {
                let length = length.unwrap_or(Length::For(REPEAT_LENGTH));
                let warmup = warmup.unwrap_or(Warmup::For(REPEAT_LENGTH / WARMUP_DIVISOR));
                let prepare = |runner: &Runner<'_>, plan: &Plan| {
                    let mut generator = runner.open(plan)?;
                    let run = runner.prepare_run(&mut generator, warmup, load.clone(), length)?;
                    Ok((generator, run))
                };
                repeats(runner, *count, other.as_ref(), &prepare)
            }
        }
    }

    /// Returns an open-loop load at `rate` with the configured arrivals.
    fn open_load(&self, rate: f64) -> Load {
        Load::Open {
            rate,
            arrivals: self.arrivals,
        }
    }

    fn first_look(&self, mut runner: Runner<'_>, warmup: Warmup) -> Result<Measured, BenchError> {
        let mut generator = runner.open(&runner.plan)?;
        let run = Run {
            load: Load::Closed,
            warmup: FIRST_LOOK / WARMUP_DIVISOR,
            length: Length::For(FIRST_LOOK),
        };
        let alone = runner.run_once(&mut generator, &run)?;
        drop(generator);
        let rate = alone.done_per_s() * FIRST_SHARE;
        if rate < 1.0 || runner.stop.is_stopped() {
            return Ok(runner.into_measured(run, alone, None));
        }
        runner
            .observer
            .first_look(alone.done_per_s(), FIRST_CONNECTIONS);
        let plan = Plan {
            connections: FIRST_CONNECTIONS,
            ..runner.plan.clone()
        };
        let load = self.open_load(rate.round());
        let second = runner.open(&plan).and_then(|mut generator| {
            let run =
                runner.prepare_run(&mut generator, warmup, load, Length::For(FIRST_LENGTH))?;
            let figures = runner.run_once(&mut generator, &run)?;
            Ok((run, figures))
        });
        let (run, figures) = match second {
            Ok(second) => second,
            // What the first run measured is a result.
            Err(BenchError::Stopped) => return Ok(runner.into_measured(run, alone, None)),
            Err(error) => return Err(error),
        };
        runner.plan = plan;
        Ok(runner.into_measured(run, figures, None))
    }

    fn steps(
        &self,
        mut runner: Runner<'_>,
        rates: &[f64],
        each: Duration,
    ) -> Result<Measured, BenchmarkError> {
        let mut generator = runner.open(&runner.plan)?;
        let mut last = None;
        for rate in rates {
            let load = self.open_load(*rate);
            match runner.attempt(&mut generator, Purpose::Step, load, each) {
                Ok((run, figures, _)) => last = Some((run, figures)),
                Err(BenchError::Stopped) if last.is_some() => break,
                Err(error) => return Err(error.into()),
            }
            if runner.stop.is_stopped() {
                break;
            }
        }
        let (run, figures) = last.ok_or(BenchmarkError::NoRuns)?;
        Ok(runner.into_measured(run, figures, None))
    }

    fn search(
        &self,
        mut runner: Runner<'_>,
        trial: Duration,
        confirm: Duration,
        within: f64,
    ) -> Result<Measured, BenchmarkError> {
        let mut generator = runner.open(&runner.plan)?;
        let mut search = Search::new(SEARCH_FROM, within);
        let mut stopped_by = None;
        let mut runs: Vec<(Option<f64>, Run, Figures)> = Vec::new();
        let found = loop {
            let (purpose, rate, time) = match search.next_step() {
                SearchStep::Done(found) => break found,
                _ if runner.stop.is_stopped() => break search.held(),
                SearchStep::Trial(rate) => (Purpose::Trial, rate, trial),
                SearchStep::Confirm(rate) => (Purpose::Confirmation, rate, confirm),
            };
            let attempt = runner.attempt(&mut generator, purpose, self.open_load(rate), time);
            let (run, figures, outcome) = match attempt {
                Ok(attempt) => attempt,
                Err(BenchError::Stopped) if !runs.is_empty() => break search.held(),
                Err(error) => return Err(error.into()),
            };
            let is_mute = figures.answered() == 0;
            if outcome != TrialOutcome::Passed {
                stopped_by = runner.tries.last().map(|attempt| attempt.verdict.clone());
            }
            // The last run, and those that passed at rates that may be the result.
            runs.retain(|(passed, ..)| passed.is_some_and(|rate| search.is_held(rate)));
            let passed = (outcome == TrialOutcome::Passed).then_some(rate);
            runs.push((passed, run, figures));
            // A run that was cut has not held for its time. A lower rate does not help if nothing is answered at all.
            if runner.stop.is_stopped() || is_mute && search.held().is_none() {
                break search.held();
            }
            search.record(outcome);
        };
        let (run, figures) = run_of(found, runs).ok_or(BenchmarkError::Stopped)?;
        let result = SearchResult {
            found,
            within,
            stopped_by,
        };
        Ok(runner.into_measured(run, figures, Some(result)))
    }
}

/// Returns the run at the rate that was found, or else the last one.
fn run_of(
    found: Option<Found>,
    mut runs: Vec<(Option<f64>, Run, Figures)>,
) -> Option<(Run, Figures)> {
    let found = found.map(|found| found.rate);
    let at = found.and_then(|_| runs.iter().rposition(|(passed, ..)| *passed == found));
    let at = at.or_else(|| runs.len().checked_sub(1))?;
    let (_, run, figures) = runs.swap_remove(at);
    Some((run, figures))
}

/// Opens the connections of a plan, warms them up, and returns the run to make over them.
type Prepare<'a> = dyn Fn(&Runner<'_>, &Plan) -> Result<(LoadGenerator, Run), BenchError> + 'a;

/// Repeats the run `count` times and compares it with `other`.
fn repeats(
    mut runner: Runner<'_>,
    count: u32,
    other: Option<&Other>,
    prepare: &Prepare<'_>,
) -> Result<Measured, BenchmarkError> {
    let ours = runner.plan.clone();
    let mut theirs = match other {
        Some(Other::Endpoint { endpoint, .. }) => {
            let plan = Plan {
                endpoint: endpoint.clone(),
                ..ours.clone()
            };
            let (generator, run) = prepare(&runner, &plan)?;
            Some((plan, generator, run))
        }
        Some(Other::Result { .. }) | None => None,
    };
    let (mut generator, run) = prepare(&runner, &ours)?;
    let mut last = None;
    for _ in 0..count {
        if let Some((plan, generator, run)) = &mut theirs {
            match runner.repeat(plan, generator, run, Purpose::Other) {
                Err(BenchError::Stopped) if last.is_some() => break,
                other => other?,
            };
        }
        last = match runner.repeat(&ours, &mut generator, &run, Purpose::Repeat) {
            Err(BenchError::Stopped) if last.is_some() => break,
            repeat => Some(repeat?),
        };
        if runner.stop.is_stopped() {
            break;
        }
    }
    let figures = last.ok_or(BenchmarkError::NoRuns)?;
    let comparison = other.map(|other| Comparison::of(other, &ours, &run, &runner.tries));
    let mut measured = runner.into_measured(run, figures, None);
    measured.comparison = comparison;
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures;

    #[test]
    fn figures_are_those_of_the_last_run_at_the_rate_found() {
        let run = |rate: Option<f64>, seconds: u64| {
            let run = Run {
                load: Load::Closed,
                warmup: Duration::ZERO,
                length: Length::For(Duration::from_secs(seconds)),
            };
            (rate, run, figures::tests::empty(seconds as f64))
        };
        // A trial at 2/s, one at 4/s that failed, the confirmation, and one that was cut.
        let runs = || {
            vec![
                run(Some(2.0), 1),
                run(None, 2),
                run(Some(2.0), 10),
                run(None, 3),
            ]
        };
        let seconds = |found: Option<f64>| {
            let found = found.map(|rate| Found {
                rate,
                is_confirmed: true,
            });
            run_of(found, runs()).unwrap().1.seconds
        };
        assert!((seconds(Some(2.0)) - 10.0).abs() < 0.1, "the confirmation");
        assert!((seconds(None) - 3.0).abs() < 0.1, "the last one");
        assert!(run_of(None, Vec::new()).is_none());
    }
}
