//! The same run several times, alone or in turn with another endpoint (A B A B).

use std::time::Duration;

use echoic_client::bench::{Figures, Fleet, Length, Plan, Run, Verdict, Who};

use super::{
    super::{
        args::{Planned, Warmup},
        compare::{Comparison, Other},
        measured::{Kind, Measured, Try},
    },
    Course, DISCARDED,
};
use crate::exit::Failed;

/// One repeat, unless somebody said how long.
const EACH: Duration = Duration::from_secs(2);

impl Course<'_> {
    /// Measures so many times, and compares with whatever is to be compared with.
    pub(super) fn repeated(
        mut self,
        planned: &Planned,
        repeats: u32,
        other: Option<&Other>,
    ) -> Result<Measured, Failed> {
        let against = match other {
            Some(Other::Endpoint { endpoint, .. }) => Some(Plan {
                endpoint: endpoint.clone(),
                ..self.plan.clone()
            }),
            _ => None,
        };
        let ours = self.plan.clone();
        let (mut theirs, mut fleet) = match &against {
            Some(plan) => (
                Some(self.ready(plan, planned)?),
                self.ready(&ours, planned)?,
            ),
            None => (None, self.ready(&ours, planned)?),
        };
        let mut last = None;
        for _ in 0..repeats {
            if let (Some(plan), Some((fleet, run))) = (&against, &mut theirs) {
                self.repeat(plan, fleet, run, Kind::Other)?;
            }
            let (fleet, run) = &mut fleet;
            last = Some((run.clone(), self.repeat(&ours, fleet, run, Kind::Repeat)?));
            if self.is_stopped() {
                break;
            }
        }
        let (run, figures) = last.ok_or_else(|| Failed::usage("nothing was to be measured"))?;
        let comparison = other.map(|other| Comparison::of(other, &ours, &run, &self.tries));
        let mut measured = self.measured(run, figures, None);
        measured.comparison = comparison;
        Ok(measured)
    }

    /// Connections, warmed, and the run that is repeated over them.
    fn ready(&self, plan: &Plan, planned: &Planned) -> Result<(Fleet, Run), Failed> {
        let load = &self.args.load;
        let mut fleet = self.open_with(plan)?;
        let length = match (load.duration, load.count) {
            (None, None) => Length::For(EACH),
            _ => planned.length,
        };
        let warmup = match load.warmup {
            None => Warmup::For(EACH / DISCARDED),
            Some(warmup) => warmup,
        };
        let run = self.warmed(&mut fleet, warmup, planned.load.clone(), length)?;
        Ok((fleet, run))
    }

    fn repeat(
        &mut self,
        plan: &Plan,
        fleet: &mut Fleet,
        run: &Run,
        what: Kind,
    ) -> Result<Figures, Failed> {
        let figures = self.once(fleet, run)?;
        let slo = self.args.tries.slo.as_ref();
        let verdict = Verdict::of(plan, slo, &figures);
        let kept = slo.is_none_or(|slo| slo.is_met(&figures)) && verdict.who == Who::Healthy;
        let attempt = Try::of(what, figures.rate, &figures, kept, verdict);
        self.screen.tried(self.tries.len() + 1, &attempt);
        self.tries.push(attempt);
        Ok(figures)
    }
}
