//! The result of a benchmark: its figures, its runs, and the checks of its objectives.

use super::{
    attempt::Attempt,
    compare::Comparison,
    figures::Figures,
    plan::{Plan, Run},
    search::Found,
    slo::Judged,
    verdict::Verdict,
};

/// The result of a benchmark.
#[derive(Debug)]
pub struct Measured {
    /// Plan of the run that the figures belong to.
    pub plan: Plan,
    /// Run that the figures belong to: the only one, the last step, or the run of a search at the rate that it
    /// found.
    pub run: Run,
    /// Its figures.
    pub figures: Figures,
    /// Its verdict; for a search, the verdict of the run that limited the rate.
    pub verdict: Verdict,
    /// Whether the expectation was inferred from a reply.
    pub is_guessed: bool,
    /// Whether it was stopped early.
    pub is_cut: bool,
    /// All runs of a series, in order.
    pub tries: Vec<Attempt>,
    /// The result of a search, if one was made.
    pub search: Option<SearchResult>,
    /// The result of a comparison, if one was made.
    pub comparison: Option<Comparison>,
    /// Results of the SLO terms.
    pub slo: Vec<Judged>,
    /// Results of the asserted terms.
    pub asserted: Vec<Judged>,
}

/// The result of a search.
#[derive(Debug)]
pub struct SearchResult {
    /// The highest rate that held.
    pub found: Option<Found>,
    /// Precision of the search, as a share of the rate.
    pub within: f64,
    /// Verdict of the last run that did not pass.
    pub stopped_by: Option<Verdict>,
}

impl Measured {
    /// Returns whether all SLO and asserted terms are met, and a search found a rate.
    pub fn holds(&self) -> bool {
        let judged = self.slo.iter().chain(&self.asserted);
        let found = self
            .search
            .as_ref()
            .is_none_or(|search| search.found.is_some());
        found && judged.into_iter().all(|judged| judged.met)
    }
}
