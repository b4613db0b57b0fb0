//! Makes the single runs of a benchmark: opens connections, warms up, runs, and checks the objectives.

use std::{
    sync::mpsc::sync_channel,
    thread,
    time::{Duration, Instant},
};

use super::{
    attempt::{Attempt, Purpose},
    figures::Figures,
    generator::{BenchError, LoadGenerator},
    measured::{Measured, SearchResult},
    observer::{Observer, StopSwitch},
    plan::{Length, Load, Plan, Run, Warmup},
    search::TrialOutcome,
    slo::Slo,
    verdict::{Limit, Verdict},
};

/// The first 1/n of a step, a trial or a repeat is warm-up and not counted.
pub(super) const WARMUP_DIVISOR: u32 = 5;
/// Length of one sample of an automatic warm-up, and the maximum length of all, waiting for replies included.
const WARMUP_SAMPLE: Duration = Duration::from_millis(500);
const WARMUP_MAX: Duration = Duration::from_secs(10);
/// Maximum ratio of two medians that count as equal.
const MEDIAN_TOLERANCE: f64 = 1.1;
/// Minimum share of requests with a reply within a trial that passes.
const DELIVERED: f64 = 0.99;

/// Makes runs and collects their results.
pub(super) struct Runner<'a> {
    pub(super) plan: Plan,
    pub(super) floor: Option<Duration>,
    pub(super) is_guessed: bool,
    pub(super) slo: Option<&'a Slo>,
    pub(super) assert: Option<&'a Slo>,
    pub(super) stop: &'a StopSwitch,
    pub(super) observer: &'a dyn Observer,
    pub(super) tries: Vec<Attempt>,
}

impl Runner<'_> {
    pub(super) fn open(&self, plan: &Plan) -> Result<LoadGenerator, BenchError> {
        LoadGenerator::open_unless_stopped(plan, self.stop.handle())
    }

    /// Makes one run, which the observer follows.
    pub(super) fn run_once(
        &self,
        generator: &mut LoadGenerator,
        run: &Run,
    ) -> Result<Figures, BenchError> {
        let progress = generator.progress_reader();
        let (done, is_done) = sync_channel::<()>(0);
        let mut figures = thread::scope(|scope| {
            let (observer, plan) = (self.observer, &self.plan);
            scope.spawn(move || observer.follow_run(plan, run, &progress, &is_done));
            let figures = generator.run(run);
            drop(done);
            figures
        })?;
        figures.generator.floor = self.floor;
        Ok(figures)
    }

    /// Returns the run to make, after an automatic warm-up if requested.
    pub(super) fn prepare_run(
        &self,
        generator: &mut LoadGenerator,
        warmup: Warmup,
        load: Load,
        length: Length,
    ) -> Result<Run, BenchError> {
        let warmup = match warmup {
            Warmup::For(time) => time,
            Warmup::Auto => {
                self.warm_up(generator, &load)?;
                WARMUP_SAMPLE / 5
            }
        };
        Ok(Run {
            load,
            warmup,
            length,
        })
    }

    /// Generates load until two consecutive samples have similar medians, or nothing is answered.
    fn warm_up(&self, generator: &mut LoadGenerator, load: &Load) -> Result<(), BenchError> {
        let sample = Run {
            load: load.clone(),
            warmup: Duration::ZERO,
            length: Length::For(WARMUP_SAMPLE),
        };
        let mut before: Option<f64> = None;
        let begun = Instant::now();
        while begun.elapsed() < WARMUP_MAX {
            let figures = generator.run(&sample)?;
            let median = figures.due.value_at_quantile(0.5) as f64;
            let is_settled = before.is_some_and(|before| {
                (1.0 / MEDIAN_TOLERANCE..=MEDIAN_TOLERANCE).contains(&(median / before))
            });
            if is_settled || figures.answered() == 0 || self.stop.is_stopped() {
                break;
            }
            before = Some(median.max(1.0));
        }
        Ok(())
    }

    /// Makes a run at a rate; its first part is not counted.
    pub(super) fn attempt(
        &mut self,
        generator: &mut LoadGenerator,
        purpose: Purpose,
        load: Load,
        time: Duration,
    ) -> Result<(Run, Figures, TrialOutcome), BenchError> {
        let run = Run {
            load,
            warmup: time / WARMUP_DIVISOR,
            length: Length::For(time.saturating_sub(time / WARMUP_DIVISOR)),
        };
        let figures = self.run_once(generator, &run)?;
        let verdict = Verdict::of(&self.plan, self.slo, &figures);
        let outcome = judge(self.slo, &figures, verdict.limit);
        let rate = match run.load {
            Load::Open { rate, .. } => Some(rate),
            Load::Closed | Load::Recorded(_) => None,
        };
        self.add_attempt(Attempt::of(
            purpose,
            rate,
            &figures,
            outcome == TrialOutcome::Passed,
            verdict,
        ));
        Ok((run, figures, outcome))
    }

    /// Makes one of several repeats of a run of `plan`.
    pub(super) fn repeat(
        &mut self,
        plan: &Plan,
        generator: &mut LoadGenerator,
        run: &Run,
        purpose: Purpose,
    ) -> Result<Figures, BenchError> {
        let figures = self.run_once(generator, run)?;
        let verdict = Verdict::of(plan, self.slo, &figures);
        let passed =
            self.slo.is_none_or(|slo| slo.is_met(&figures)) && verdict.limit == Limit::None;
        self.add_attempt(Attempt::of(
            purpose,
            figures.rate,
            &figures,
            passed,
            verdict,
        ));
        Ok(figures)
    }

    fn add_attempt(&mut self, attempt: Attempt) {
        self.observer
            .attempt_finished(self.tries.len() + 1, &attempt);
        self.tries.push(attempt);
    }

    /// Returns the result of the benchmark; the figures belong to `run`.
    pub(super) fn into_measured(
        self,
        run: Run,
        figures: Figures,
        search: Option<SearchResult>,
    ) -> Measured {
        let judged = |terms: Option<&Slo>| terms.map(|slo| slo.judge(&figures)).unwrap_or_default();
        let mut verdict = Verdict::of(&self.plan, self.slo, &figures);
        if let Some(limit) = search.as_ref().and_then(|search| search.stopped_by.clone()) {
            verdict = limit;
        }
        Measured {
            verdict,
            slo: judged(self.slo),
            asserted: judged(self.assert),
            is_cut: self.stop.is_stopped(),
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

/// Judges a trial. A late generator makes latencies longer, never shorter: objectives that were met all the same are met.
fn judge(slo: Option<&Slo>, figures: &Figures, limit: Limit) -> TrialOutcome {
    let is_delivered = figures.delivered() >= DELIVERED;
    match (slo, limit) {
        (Some(slo), _) if is_delivered && slo.is_met(figures) => TrialOutcome::Passed,
        (_, Limit::Generator) => TrialOutcome::Inconclusive,
        (None, _) if is_delivered => TrialOutcome::Passed,
        _ => TrialOutcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures;

    #[test]
    fn objectives_met_by_a_late_generator_are_met() {
        let slo: Slo = "p99<5ms, errors=0".parse().unwrap();
        let figures = |latency_ms: u64, done: u64| {
            let mut figures = figures::tests::empty(10.0);
            figures.rate = Some(100.0);
            (figures.asked, figures.sent) = (1000, 1000);
            (figures.ok, figures.done) = (1000, done);
            figures.due.record_n(latency_ms * 1_000_000, 1000).unwrap();
            figures
        };
        let judged = |slo, latency_ms, done, limit| judge(slo, &figures(latency_ms, done), limit);
        let (late, healthy, slow) = (Limit::Generator, Limit::None, Limit::Slo);
        assert_eq!(judged(Some(&slo), 2, 1000, late), TrialOutcome::Passed);
        assert_eq!(
            judged(Some(&slo), 9, 1000, late),
            TrialOutcome::Inconclusive
        );
        assert_eq!(judged(Some(&slo), 2, 900, late), TrialOutcome::Inconclusive);
        assert_eq!(judged(Some(&slo), 2, 1000, healthy), TrialOutcome::Passed);
        assert_eq!(judged(Some(&slo), 9, 1000, slow), TrialOutcome::Failed);
        assert_eq!(judged(None, 2, 1000, late), TrialOutcome::Inconclusive);
        assert_eq!(judged(None, 2, 1000, healthy), TrialOutcome::Passed);
        assert_eq!(judged(None, 2, 900, Limit::Server), TrialOutcome::Failed);
    }
}
