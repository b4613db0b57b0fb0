//! A benchmark: which runs to make, one after the other, and when to end.

use std::time::Duration;

use thiserror::Error;

use super::{
    compare::{Comparison, Other},
    fleet::{BenchError, Fleet},
    guess::guess,
    measured::{Measured, SearchResult},
    null::floor,
    observer::{Observer, Stops},
    plan::{Arrivals, IndivisibleReplies, Length, Load, Plan, Run, Warmup},
    runner::{DISCARDED, Runner},
    search::{Kept, Next, Search},
    slo::Slo,
    tries::Purpose,
};

/// The first look: one connection for so long, then so many at a share of what the one gave, for so long.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const FIRST_CONNECTIONS: u32 = 8;
const FIRST_SHARE: f64 = 0.5;
const FIRST_LENGTH: Duration = Duration::from_secs(10);
/// Where a search begins, in requests a second.
const SEARCH_FROM: f64 = 1000.0;
/// One repeat, unless its length is given.
const EACH: Duration = Duration::from_secs(2);

/// One or more runs against one target, and what they are judged by.
#[derive(Clone, Debug)]
pub struct Benchmark {
    /// The target, and how to speak with it.
    pub plan: Plan,
    /// Send one request beforehand, and expect what its reply shows instead of [`Plan::expect`].
    pub guesses: bool,
    /// Measure beforehand what a server that does nothing would give.
    pub measures_floor: bool,
    /// How the requests of steps, of a search and of a first look are spread.
    pub arrivals: Arrivals,
    /// Which runs to make.
    pub runs: Runs,
    /// What each run is judged by.
    pub slo: Option<Slo>,
    /// What the last run is judged by, besides.
    pub assert: Option<Slo>,
}

/// Which runs to make.
#[derive(Clone, Debug)]
pub enum Runs {
    /// One.
    Once {
        /// When requests are due.
        load: Load,
        /// How long.
        length: Length,
        /// What is not counted before that.
        warmup: Warmup,
    },
    /// One connection in a closed loop, then eight at half of what that gave.
    FirstLook {
        /// What is not counted of the second.
        warmup: Warmup,
    },
    /// Rates one after the other.
    Steps {
        /// Requests a second.
        rates: Vec<f64>,
        /// How long each takes; the first fifth is not counted.
        each: Duration,
    },
    /// The highest rate that keeps the promise.
    Search {
        /// How long one try takes; the first fifth is not counted.
        trial: Duration,
        /// How long the rate that was found has to hold.
        confirm: Duration,
        /// How closely to search, as a share of the rate.
        within: f64,
    },
    /// The same several times, alone or in turn with another endpoint (A B A B).
    Repeats {
        /// How often.
        count: u32,
        /// When requests are due.
        load: Load,
        /// How long each takes; 2 s unless given.
        length: Option<Length>,
        /// What is not counted before each; a fifth of 2 s unless given.
        warmup: Option<Warmup>,
        /// What to compare with.
        other: Option<Other>,
    },
}

/// Why a benchmark has no result.
#[derive(Debug, Error)]
pub enum BenchmarkError {
    /// A run could not be made.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The replies could not be told apart.
    #[error(transparent)]
    Indivisible(#[from] IndivisibleReplies),
    /// No rates, or no repeats.
    #[error("there are no runs to make")]
    NoRuns,
    /// It was stopped first.
    #[error("stopped before the first trial")]
    Stopped,
}

impl Benchmark {
    /// Makes the runs, until they are over or `stops` is told to stop. Blocks; `observer` is told how it is getting on.
    pub fn run(&self, stops: &Stops, observer: &dyn Observer) -> Result<Measured, BenchmarkError> {
        let mut plan = self.plan.clone();
        if self.guesses {
            plan.expect = guess(&plan)?;
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
            stops,
            observer,
            tries: Vec::new(),
        };
        match &self.runs {
            Runs::Once {
                load,
                length,
                warmup,
            } => {
                let mut fleet = runner.open(&runner.plan)?;
                let run = runner.warmed(&mut fleet, *warmup, load.clone(), *length)?;
                let figures = runner.once(&mut fleet, &run)?;
                Ok(runner.measured(run, figures, None))
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
                let length = length.unwrap_or(Length::For(EACH));
                let warmup = warmup.unwrap_or(Warmup::For(EACH / DISCARDED));
                let ready = |runner: &Runner<'_>, plan: &Plan| {
                    let mut fleet = runner.open(plan)?;
                    let run = runner.warmed(&mut fleet, warmup, load.clone(), length)?;
                    Ok((fleet, run))
                };
                repeats(runner, *count, other.as_ref(), &ready)
            }
        }
    }

    /// Requests at a rate, spread as they are to be.
    fn at(&self, rate: f64) -> Load {
        Load::Open {
            rate,
            arrivals: self.arrivals,
        }
    }

    fn first_look(&self, mut runner: Runner<'_>, warmup: Warmup) -> Result<Measured, BenchError> {
        let mut fleet = runner.open(&runner.plan)?;
        let run = Run {
            load: Load::Closed,
            warmup: FIRST_LOOK / DISCARDED,
            length: Length::For(FIRST_LOOK),
        };
        let alone = runner.once(&mut fleet, &run)?;
        drop(fleet);
        let rate = alone.done_per_s() * FIRST_SHARE;
        if rate < 1.0 || runner.stops.is_stopped() {
            return Ok(runner.measured(run, alone, None));
        }
        runner
            .observer
            .first_look(alone.done_per_s(), FIRST_CONNECTIONS);
        runner.plan.connections = FIRST_CONNECTIONS;
        let mut fleet = runner.open(&runner.plan)?;
        let load = self.at(rate.round());
        let run = runner.warmed(&mut fleet, warmup, load, Length::For(FIRST_LENGTH))?;
        let figures = runner.once(&mut fleet, &run)?;
        Ok(runner.measured(run, figures, None))
    }

    fn steps(
        &self,
        mut runner: Runner<'_>,
        rates: &[f64],
        each: Duration,
    ) -> Result<Measured, BenchmarkError> {
        let mut fleet = runner.open(&runner.plan)?;
        let mut last = None;
        for rate in rates {
            let load = self.at(*rate);
            let (run, figures, _) = runner.attempt(&mut fleet, Purpose::Step, load, each)?;
            last = Some((run, figures));
            if runner.stops.is_stopped() {
                break;
            }
        }
        let (run, figures) = last.ok_or(BenchmarkError::NoRuns)?;
        Ok(runner.measured(run, figures, None))
    }

    fn search(
        &self,
        mut runner: Runner<'_>,
        trial: Duration,
        confirm: Duration,
        within: f64,
    ) -> Result<Measured, BenchmarkError> {
        let mut fleet = runner.open(&runner.plan)?;
        let mut search = Search::new(SEARCH_FROM, within);
        let mut limit = None;
        let mut last = None;
        let found = loop {
            let (purpose, rate, time) = match search.next() {
                Next::Found(rate) => break rate,
                _ if runner.stops.is_stopped() => break None,
                Next::Trial(rate) => (Purpose::Trial, rate, trial),
                Next::Confirm(rate) => (Purpose::Confirmation, rate, confirm),
            };
            let (run, figures, kept) = runner.attempt(&mut fleet, purpose, self.at(rate), time)?;
            if kept != Kept::Yes {
                limit = runner.tries.last().map(|attempt| attempt.verdict.clone());
            }
            last = Some((run, figures));
            search.tell(kept);
        };
        let (run, figures) = last.ok_or(BenchmarkError::Stopped)?;
        let result = SearchResult {
            found,
            within,
            limit,
        };
        Ok(runner.measured(run, figures, Some(result)))
    }
}

/// Opens connections by a plan, warms them up, and gives the run to make over them.
type Ready<'a> = dyn Fn(&Runner<'_>, &Plan) -> Result<(Fleet, Run), BenchError> + 'a;

/// Measures so many times, and compares with `other`.
fn repeats(
    mut runner: Runner<'_>,
    count: u32,
    other: Option<&Other>,
    ready: &Ready<'_>,
) -> Result<Measured, BenchmarkError> {
    let ours = runner.plan.clone();
    let mut theirs = match other {
        Some(Other::Endpoint { endpoint, .. }) => {
            let plan = Plan {
                endpoint: endpoint.clone(),
                ..ours.clone()
            };
            let (fleet, run) = ready(&runner, &plan)?;
            Some((plan, fleet, run))
        }
        Some(Other::Result { .. }) | None => None,
    };
    let (mut fleet, run) = ready(&runner, &ours)?;
    let mut last = None;
    for _ in 0..count {
        if let Some((plan, fleet, run)) = &mut theirs {
            runner.repeat(plan, fleet, run, Purpose::Other)?;
        }
        last = Some(runner.repeat(&ours, &mut fleet, &run, Purpose::Repeat)?);
        if runner.stops.is_stopped() {
            break;
        }
    }
    let figures = last.ok_or(BenchmarkError::NoRuns)?;
    let comparison = other.map(|other| Comparison::of(other, &ours, &run, &runner.tries));
    let mut measured = runner.measured(run, figures, None);
    measured.comparison = comparison;
    Ok(measured)
}
