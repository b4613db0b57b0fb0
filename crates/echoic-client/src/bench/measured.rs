//! The result of a whole benchmark: its figures, its runs, and what they were judged by.

use super::{
    compare::Comparison,
    figures::Figures,
    plan::{Plan, Run},
    slo::Judged,
    tries::Attempt,
    verdict::Verdict,
};

/// The result of a benchmark.
#[derive(Debug)]
pub struct Measured {
    /// The plan of the run that the figures are of.
    pub plan: Plan,
    /// The run that the figures are of: the only one, the last step, or the confirmation of a search.
    pub run: Run,
    /// Its figures.
    pub figures: Figures,
    /// Its verdict; of a search, the verdict of the run that kept it from going higher.
    pub verdict: Verdict,
    /// Whether the expectation was inferred from a reply.
    pub is_guessed: bool,
    /// Whether it was stopped before its end.
    pub is_cut: bool,
    /// Each run of many, in the order in which they were made.
    pub tries: Vec<Attempt>,
    /// The result of a search, if one was made.
    pub search: Option<SearchResult>,
    /// The result of a comparison, if one was made.
    pub comparison: Option<Comparison>,
    /// The terms that were promised.
    pub slo: Vec<Judged>,
    /// The terms that were asserted.
    pub asserted: Vec<Judged>,
}

/// The result of a search.
#[derive(Debug)]
pub struct SearchResult {
    /// Requests a second that were kept for the whole confirmation.
    pub found: Option<f64>,
    /// How closely it was searched, as a share of the rate.
    pub within: f64,
    /// What kept it from going higher.
    pub stopped_by: Option<Verdict>,
}

impl Measured {
    /// Whether all that was promised and asserted holds, and what was searched was found.
    pub fn holds(&self) -> bool {
        let judged = self.slo.iter().chain(&self.asserted);
        let found = self
            .search
            .as_ref()
            .is_none_or(|search| search.found.is_some());
        found && judged.into_iter().all(|judged| judged.met)
    }
}
