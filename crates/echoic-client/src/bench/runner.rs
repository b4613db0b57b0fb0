//! The single runs of a benchmark: opens connections, warms them up, runs, and judges.

use std::{sync::mpsc::sync_channel, thread, time::Duration};

use super::{
    figures::Figures,
    fleet::{BenchError, Fleet},
    measured::{Measured, SearchResult},
    observer::{Observer, Stops},
    plan::{Length, Load, Plan, Run, Warmup},
    search::Kept,
    slo::Slo,
    tries::{Purpose, Try},
    verdict::{Verdict, Who},
};

/// Of a step, a trial or a repeat, one part in so many is warm-up and not counted.
pub(super) const DISCARDED: u32 = 5;
/// One look of an automatic warm-up, and how many there are at most.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS_MAX: usize = 20;
/// Medians so near to each other are alike.
const ALIKE: f64 = 1.1;
/// Answered less than this within a trial is falling behind.
const DELIVERED: f64 = 0.99;

/// Makes runs, and keeps what each of them has shown.
pub(super) struct Runner<'a> {
    pub(super) plan: Plan,
    pub(super) floor: Option<Duration>,
    pub(super) is_guessed: bool,
    pub(super) slo: Option<&'a Slo>,
    pub(super) assert: Option<&'a Slo>,
    pub(super) stops: &'a Stops,
    pub(super) observer: &'a dyn Observer,
    pub(super) tries: Vec<Try>,
}

impl Runner<'_> {
    pub(super) fn open(&self, plan: &Plan) -> Result<Fleet, BenchError> {
        let fleet = Fleet::open(plan)?;
        self.stops.add(fleet.stop());
        Ok(fleet)
    }

    /// One run, which the observer follows.
    pub(super) fn once(&self, fleet: &mut Fleet, run: &Run) -> Result<Figures, BenchError> {
        let watch = fleet.watch();
        let (done, is_done) = sync_channel::<()>(0);
        let mut figures = thread::scope(|scope| {
            let (observer, plan) = (self.observer, &self.plan);
            scope.spawn(move || observer.follow(plan, run, &watch, &is_done));
            let figures = fleet.run(run);
            drop(done);
            figures
        })?;
        figures.generator.floor = self.floor;
        Ok(figures)
    }

    /// The run, after a warm-up of its own where that is left to us.
    pub(super) fn warmed(
        &self,
        fleet: &mut Fleet,
        warmup: Warmup,
        load: Load,
        length: Length,
    ) -> Result<Run, BenchError> {
        let warmup = match warmup {
            Warmup::For(time) => time,
            Warmup::Auto => {
                self.warm_up(fleet, &load)?;
                LOOK / 5
            }
        };
        Ok(Run {
            load,
            warmup,
            length,
        })
    }

    /// Loads until two looks one after the other have medians that are alike.
    fn warm_up(&self, fleet: &mut Fleet, load: &Load) -> Result<(), BenchError> {
        let look = Run {
            load: load.clone(),
            warmup: Duration::ZERO,
            length: Length::For(LOOK),
        };
        let mut before: Option<f64> = None;
        for _ in 0..LOOKS_MAX {
            let figures = fleet.run(&look)?;
            let median = figures.due.value_at_quantile(0.5) as f64;
            let is_alike =
                before.is_some_and(|before| (1.0 / ALIKE..=ALIKE).contains(&(median / before)));
            if is_alike || self.stops.is_stopped() {
                break;
            }
            before = Some(median.max(1.0));
        }
        Ok(())
    }

    /// A run at a rate, of which the first part is not counted.
    pub(super) fn attempt(
        &mut self,
        fleet: &mut Fleet,
        purpose: Purpose,
        load: Load,
        time: Duration,
    ) -> Result<(Run, Figures, Kept), BenchError> {
        let run = Run {
            load,
            warmup: time / DISCARDED,
            length: Length::For(time.saturating_sub(time / DISCARDED)),
        };
        let figures = self.once(fleet, &run)?;
        let verdict = Verdict::of(&self.plan, self.slo, &figures);
        let is_met = self.slo.is_none_or(|slo| slo.is_met(&figures));
        let kept = match verdict.who {
            Who::Generator => Kept::Unable,
            _ if is_met && figures.delivered() >= DELIVERED => Kept::Yes,
            _ => Kept::No,
        };
        let rate = match run.load {
            Load::Open { rate, .. } => Some(rate),
            Load::Closed | Load::Recorded(_) => None,
        };
        self.keep(Try::of(purpose, rate, &figures, kept == Kept::Yes, verdict));
        Ok((run, figures, kept))
    }

    /// One of several runs of the same, made by `plan`.
    pub(super) fn repeat(
        &mut self,
        plan: &Plan,
        fleet: &mut Fleet,
        run: &Run,
        purpose: Purpose,
    ) -> Result<Figures, BenchError> {
        let figures = self.once(fleet, run)?;
        let verdict = Verdict::of(plan, self.slo, &figures);
        let kept = self.slo.is_none_or(|slo| slo.is_met(&figures)) && verdict.who == Who::Healthy;
        self.keep(Try::of(purpose, figures.rate, &figures, kept, verdict));
        Ok(figures)
    }

    fn keep(&mut self, attempt: Try) {
        self.observer.tried(self.tries.len() + 1, &attempt);
        self.tries.push(attempt);
    }

    /// Ends the benchmark; `run` is the one that the figures are of.
    pub(super) fn measured(
        self,
        run: Run,
        figures: Figures,
        search: Option<SearchResult>,
    ) -> Measured {
        let judged = |terms: Option<&Slo>| terms.map(|slo| slo.judge(&figures)).unwrap_or_default();
        let mut verdict = Verdict::of(&self.plan, self.slo, &figures);
        if let Some(limit) = search.as_ref().and_then(|search| search.limit.clone()) {
            verdict = limit;
        }
        Measured {
            verdict,
            slo: judged(self.slo),
            asserted: judged(self.assert),
            is_cut: self.stops.is_stopped(),
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
