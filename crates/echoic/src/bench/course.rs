//! Which runs a command makes, one after the other.

mod repeats;

use std::{thread, time::Duration};

use echoic_client::bench::{
    Figures, Fleet, Kept, Length, Load, Next, Plan, Run, Search, Slo, Stop, Verdict, Who, floor,
    guess,
};

use super::{
    args::{self, BenchArgs, Planned, Warmup},
    compare::Other,
    measured::{self, Kind, Measured, Try},
    progress::Screen,
};
use crate::exit::Failed;

/// The first picture's one connection, and its eight.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const FIRST_CONNECTIONS: u32 = 8;
/// Of what one connection gave in a closed loop, so much is asked of eight.
const FIRST_SHARE: f64 = 0.5;
/// Where a search begins, in requests a second.
const SEARCH_FROM: f64 = 1000.0;
/// Of a step or a trial, so much is not counted.
const DISCARDED: u32 = 5;
/// One look of an automatic warm-up, and how many there are at most.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS_MAX: usize = 20;
/// Medians so near to each other are alike.
const ALIKE: f64 = 1.1;
/// Answered less than this within a trial is falling behind.
const DELIVERED: f64 = 0.99;

/// A command under way.
pub(super) struct Course<'a> {
    args: &'a BenchArgs,
    plan: Plan,
    floor: Option<Duration>,
    is_guessed: bool,
    screen: &'a Screen,
    tries: Vec<Try>,
}

impl<'a> Course<'a> {
    /// Finds out what nobody said, and makes the runs. `stop` is set by a signal.
    pub(super) fn run(
        args: &'a BenchArgs,
        planned: Planned,
        repeats: Option<u32>,
        other: Option<&Other>,
        screen: &'a Screen,
    ) -> Result<Measured, Failed> {
        let mut plan = planned.plan.clone();
        let needs_guess = args.said.expect.is_none();
        if needs_guess {
            plan.expect = guess(&plan)?;
        }
        args::is_divisible(&plan).map_err(Failed::usage)?;
        let floor = if args.showing.no_floor {
            None
        } else {
            floor(&plan)?
        };
        let course = Self {
            args,
            plan,
            floor,
            is_guessed: needs_guess,
            screen,
            tries: Vec::new(),
        };
        if let Some(steps) = &args.tries.steps {
            return course.steps(
                &steps.ordered(args.tries.order.into(), args.said.seed),
                steps.each,
            );
        }
        if args.tries.find.is_some() {
            return course.search();
        }
        if let Some(repeats) = repeats {
            return course.repeated(&planned, repeats, other);
        }
        if planned.is_first_look {
            return course.first_look(planned.warmup);
        }
        let mut fleet = course.open()?;
        let run = course.warmed(&mut fleet, planned.warmup, planned.load, planned.length)?;
        let figures = course.once(&mut fleet, &run)?;
        Ok(course.measured(run, figures, None))
    }

    fn open(&self) -> Result<Fleet, Failed> {
        self.open_with(&self.plan)
    }

    fn open_with(&self, plan: &Plan) -> Result<Fleet, Failed> {
        let fleet = Fleet::open(plan)?;
        self.screen.stops(fleet.stop());
        Ok(fleet)
    }

    /// One run, looked on at.
    fn once(&self, fleet: &mut Fleet, run: &Run) -> Result<Figures, Failed> {
        let watch = fleet.watch();
        let (done, is_done) = std::sync::mpsc::sync_channel::<()>(0);
        let mut figures = thread::scope(|scope| {
            let (screen, plan) = (self.screen, &self.plan);
            scope.spawn(move || screen.follow(plan, run, &watch, &is_done));
            let figures = fleet.run(run);
            drop(done);
            figures
        })?;
        figures.generator.floor = self.floor;
        Ok(figures)
    }

    /// The run, after a warm-up of its own where that is left to us.
    fn warmed(
        &self,
        fleet: &mut Fleet,
        warmup: Warmup,
        load: Load,
        length: Length,
    ) -> Result<Run, Failed> {
        let warmup = match warmup {
            Warmup::For(time) => time,
            Warmup::Auto => {
                let look = Run {
                    load: load.clone(),
                    warmup: Duration::ZERO,
                    length: Length::For(LOOK),
                };
                let mut before: Option<f64> = None;
                for _ in 0..LOOKS_MAX {
                    let figures = fleet.run(&look)?;
                    let median = figures.due.value_at_quantile(0.5) as f64;
                    let is_alike = before
                        .is_some_and(|before| (1.0 / ALIKE..=ALIKE).contains(&(median / before)));
                    if is_alike || self.is_stopped() {
                        break;
                    }
                    before = Some(median.max(1.0));
                }
                LOOK / 5
            }
        };
        Ok(Run {
            load,
            warmup,
            length,
        })
    }

    fn is_stopped(&self) -> bool {
        self.screen.is_stopped()
    }

    /// One connection in a closed loop, then eight at half of what that gave.
    fn first_look(mut self, warmup: Warmup) -> Result<Measured, Failed> {
        let mut fleet = self.open()?;
        let run = Run {
            load: Load::Closed,
            warmup: FIRST_LOOK / DISCARDED,
            length: Length::For(FIRST_LOOK),
        };
        let alone = self.once(&mut fleet, &run)?;
        drop(fleet);
        let rate = alone.done_per_s() * FIRST_SHARE;
        if rate < 1.0 || self.is_stopped() {
            return Ok(self.measured(run, alone, None));
        }
        self.screen.note(&format!(
            "one connection, closed loop: {:.0} replies a second; now {FIRST_CONNECTIONS} connections at half of that",
            alone.done_per_s()
        ));
        self.plan.connections = FIRST_CONNECTIONS;
        let mut fleet = self.open()?;
        let load = self.args.at(rate.round());
        let run = self.warmed(
            &mut fleet,
            warmup,
            load,
            Length::For(Duration::from_secs(10)),
        )?;
        let figures = self.once(&mut fleet, &run)?;
        Ok(self.measured(run, figures, None))
    }

    fn steps(mut self, rates: &[f64], each: Duration) -> Result<Measured, Failed> {
        let mut fleet = self.open()?;
        let mut last = None;
        for rate in rates {
            let (run, figures, _) = self.attempt(&mut fleet, Kind::Step, *rate, each)?;
            last = Some((run, figures));
            if self.is_stopped() {
                break;
            }
        }
        let (run, figures) = last.ok_or_else(|| Failed::usage("there are no steps"))?;
        Ok(self.measured(run, figures, None))
    }

    /// A run at a rate, the first fifth of which is not counted.
    fn attempt(
        &mut self,
        fleet: &mut Fleet,
        what: Kind,
        rate: f64,
        time: Duration,
    ) -> Result<(Run, Figures, Kept), Failed> {
        let run = Run {
            load: self.args.at(rate),
            warmup: time / DISCARDED,
            length: Length::For(time.saturating_sub(time / DISCARDED)),
        };
        let figures = self.once(fleet, &run)?;
        let slo = self.args.tries.slo.as_ref();
        let verdict = Verdict::of(&self.plan, slo, &figures);
        let is_met = slo.is_none_or(|slo| slo.is_met(&figures));
        let kept = match verdict.who {
            Who::Generator => Kept::Unable,
            _ if is_met && figures.delivered() >= DELIVERED => Kept::Yes,
            _ => Kept::No,
        };
        let attempt = Try::of(what, Some(rate), &figures, kept == Kept::Yes, verdict);
        self.screen.tried(self.tries.len() + 1, &attempt);
        self.tries.push(attempt);
        Ok((run, figures, kept))
    }

    fn search(mut self) -> Result<Measured, Failed> {
        let tries = &self.args.tries;
        let (trial, confirm, within) = (tries.trial.0, tries.confirm.0, tries.within);
        let mut fleet = self.open()?;
        let mut search = Search::new(SEARCH_FROM, within);
        let mut limit = None;
        let mut last = None;
        let found = loop {
            let (what, rate, time) = match search.next() {
                Next::Found(rate) => break rate,
                _ if self.is_stopped() => break None,
                Next::Trial(rate) => (Kind::Trial, rate, trial),
                Next::Confirm(rate) => (Kind::Confirmation, rate, confirm),
            };
            let (run, figures, kept) = self.attempt(&mut fleet, what, rate, time)?;
            if kept != Kept::Yes {
                limit = self.tries.last().map(|attempt| attempt.verdict.clone());
            }
            last = Some((run, figures));
            search.tell(kept);
        };
        let (run, figures) = last.ok_or_else(|| {
            Failed::new(
                crate::exit::Exit::Interrupted,
                "stopped before the first trial",
            )
        })?;
        let search = measured::Search {
            found,
            within,
            limit,
        };
        Ok(self.measured(run, figures, Some(search)))
    }

    fn measured(self, run: Run, figures: Figures, search: Option<measured::Search>) -> Measured {
        let tries = &self.args.tries;
        let judged = |slo: &Option<Slo>| {
            slo.as_ref()
                .map(|slo| slo.judge(&figures))
                .unwrap_or_default()
        };
        let slo = tries.slo.as_ref();
        let mut verdict = Verdict::of(&self.plan, slo, &figures);
        if let Some(limit) = search.as_ref().and_then(|search| search.limit.clone()) {
            verdict = limit;
        }
        Measured {
            verdict,
            slo: judged(&tries.slo),
            asserted: judged(&tries.assert),
            is_cut: self.is_stopped(),
            plan: self.plan,
            run,
            figures,
            is_guessed: self.is_guessed,
            tries: self.tries,
            search,
            comparison: None,
        }
    }
}

/// The runs that a signal stops.
#[derive(Debug, Default)]
pub(super) struct Stops(std::sync::Mutex<(bool, Vec<Stop>)>);

impl Stops {
    /// This one too.
    pub(super) fn add(&self, stop: Stop) {
        let mut all = self.lock();
        if all.0 {
            stop.stop();
        }
        all.1.push(stop);
    }

    /// Stops what there is and what will be.
    pub(super) fn stop(&self) {
        let mut all = self.lock();
        all.0 = true;
        all.1.iter().for_each(Stop::stop);
    }

    /// Whether that was done.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (bool, Vec<Stop>)> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
