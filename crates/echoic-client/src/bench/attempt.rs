//! Summary of one run in a series.

use super::{
    figures::{Figures, percentile},
    verdict::Verdict,
};

/// Summary of one run in a series.
#[derive(Debug)]
pub struct Attempt {
    /// Purpose of the run.
    pub purpose: Purpose,
    /// Target rate in requests per second; `None` in a closed loop.
    pub asked_per_s: Option<f64>,
    /// Replies per second.
    pub done_per_s: f64,
    /// Median latency from the due time in milliseconds; `None` with too few requests.
    pub p50_ms: Option<f64>,
    /// 99th percentile, likewise.
    pub p99_ms: Option<f64>,
    /// Share of requests answered in time, from 0 to 1.
    pub delivered: f64,
    /// Share of lost requests, from 0 to 1.
    pub loss: f64,
    /// Number of wrong, lost and failed requests.
    pub errors: u64,
    /// 99th percentile of the generator lag in milliseconds.
    pub lag_p99_ms: f64,
    /// Whether the SLO was met; without an SLO, whether the run was healthy.
    pub passed: bool,
    /// What limited the run.
    pub verdict: Verdict,
}

/// Purpose of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// One rate of several given.
    Step,
    /// A short run of a search.
    Trial,
    /// The long run at the end of a search.
    Confirmation,
    /// One of several repeats.
    Repeat,
    /// A repeat of the reference of a comparison.
    Other,
}

impl Purpose {
    /// Returns the word for it in results.
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
