//! What came of a whole command, for whoever shows it: text, JSON, tables.

use echoic_client::bench::{Figures, Judged, Plan, Run, Verdict, percentile};

use super::compare::Comparison;

/// What came of a whole command.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) plan: Plan,
    /// The run that the figures are of: the only one, the last step, or the confirmation of a search.
    pub(super) run: Run,
    pub(super) figures: Figures,
    pub(super) verdict: Verdict,
    /// Whether the expectation was found out beforehand.
    pub(super) is_guessed: bool,
    /// Stopped by a signal before its end.
    pub(super) is_cut: bool,
    /// Each run of many, in the order in which they were made.
    pub(super) tries: Vec<Try>,
    pub(super) search: Option<Search>,
    pub(super) comparison: Option<Comparison>,
    /// `--slo` and `--assert`, if given.
    pub(super) slo: Vec<Judged>,
    pub(super) asserted: Vec<Judged>,
}

/// One of many runs.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) what: Kind,
    /// None in a closed loop.
    pub(super) asked_per_s: Option<f64>,
    pub(super) done_per_s: f64,
    /// Milliseconds from the due moment, where enough requests took longer.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Shares, from 0 to 1.
    pub(super) delivered: f64,
    pub(super) loss: f64,
    pub(super) errors: u64,
    pub(super) lag_p99_ms: f64,
    /// Whether it kept what was promised; without a promise, whether it was healthy.
    pub(super) kept: bool,
    pub(super) verdict: Verdict,
}

/// What a run was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Step,
    Trial,
    Confirmation,
    /// One of several of the same.
    Repeat,
    /// Likewise, of what it is compared with.
    Other,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Trial => "trial",
            Self::Confirmation => "confirm",
            Self::Repeat => "repeat",
            Self::Other => "other",
        }
    }
}

/// What a search found.
#[derive(Debug)]
pub(super) struct Search {
    /// Requests a second that were kept for the whole confirmation.
    pub(super) found: Option<f64>,
    pub(super) within: f64,
    /// What stopped it from going higher.
    pub(super) limit: Option<Verdict>,
}

impl Try {
    pub(super) fn of(
        what: Kind,
        rate: Option<f64>,
        figures: &Figures,
        kept: bool,
        verdict: Verdict,
    ) -> Self {
        let at = |q| percentile(&figures.due, q).map(|time| time.as_secs_f64() * 1e3);
        Self {
            what,
            asked_per_s: rate,
            done_per_s: figures.done_per_s(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            delivered: figures.delivered(),
            loss: figures.loss(),
            errors: figures.errors(),
            lag_p99_ms: figures.generator.lag.value_at_quantile(0.99) as f64 / 1e6,
            kept,
            verdict,
        }
    }
}

impl Measured {
    /// Whether all that was promised and asserted holds, and what was searched was found.
    pub(super) fn holds(&self) -> bool {
        let judged = self.slo.iter().chain(&self.asserted);
        let found = self
            .search
            .as_ref()
            .is_none_or(|search| search.found.is_some());
        found && judged.into_iter().all(|judged| judged.met)
    }
}
