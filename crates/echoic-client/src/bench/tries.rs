//! One of many runs, as far as the others are concerned.

use super::{
    figures::{Figures, percentile},
    verdict::Verdict,
};

/// One of many runs.
#[derive(Debug)]
pub struct Attempt {
    /// What it was for.
    pub purpose: Purpose,
    /// None in a closed loop.
    pub asked_per_s: Option<f64>,
    /// Replies a second.
    pub done_per_s: f64,
    /// Milliseconds from the due moment, where enough requests took longer.
    pub p50_ms: Option<f64>,
    /// Likewise.
    pub p99_ms: Option<f64>,
    /// The share of requests that were answered in time, from 0 to 1.
    pub delivered: f64,
    /// The share that was lost, from 0 to 1.
    pub loss: f64,
    /// Wrong, lost and failed requests.
    pub errors: u64,
    /// How late the generator was, in milliseconds.
    pub lag_p99_ms: f64,
    /// Whether it kept what was promised; without a promise, whether it was healthy.
    pub passed: bool,
    /// What the limit was.
    pub verdict: Verdict,
}

/// What a run was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// One rate of several given.
    Step,
    /// A short run of a search.
    Trial,
    /// The long run at the end of a search.
    Confirmation,
    /// One of several of the same.
    Repeat,
    /// Likewise, of what it is compared with.
    Other,
}

impl Purpose {
    /// The word for it in results.
    pub fn word(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Trial => "trial",
            Self::Confirmation => "confirm",
            Self::Repeat => "repeat",
            Self::Other => "other",
        }
    }
}

impl Attempt {
    pub(super) fn of(
        purpose: Purpose,
        rate: Option<f64>,
        figures: &Figures,
        passed: bool,
        verdict: Verdict,
    ) -> Self {
        let at = |q| percentile(&figures.due, q).map(|time| time.as_secs_f64() * 1e3);
        Self {
            purpose,
            asked_per_s: rate,
            done_per_s: figures.done_per_s(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            delivered: figures.delivered(),
            loss: figures.loss(),
            errors: figures.errors(),
            lag_p99_ms: figures.generator.lag.value_at_quantile(0.99) as f64 / 1e6,
            passed,
            verdict,
        }
    }
}
