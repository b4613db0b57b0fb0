//! Which lines are printed, as the keys of the terminal choose.

use std::sync::Arc;

use echoic_core::{
    event::{ConversationId, Outcome, RunEvent},
    exchange::ExchangeRef,
    filter::Matcher,
};
use echoic_recorder::wall_clock_now;

use super::super::terminal::{Activity, Selection};

/// The choice of the keys, if there are any, and the counts for the status line.
pub(super) struct Choice {
    activity: Option<Arc<Activity>>,
    /// The version of the selection.
    version: u64,
    is_paused: bool,
    matcher: Option<Matcher>,
}

impl Choice {
    pub(super) fn new(activity: Option<Arc<Activity>>) -> Self {
        Self {
            activity,
            version: 0,
            is_paused: false,
            matcher: None,
        }
    }

    /// Takes over what the keys have changed.
    pub(super) fn update(&mut self) {
        let Some(activity) = &self.activity else {
            return;
        };
        let version = activity.version();
        if version != self.version {
            let Selection { is_paused, filter } = activity.selection();
            self.version = version;
            self.is_paused = is_paused;
            self.matcher = filter.map(Matcher::new);
        }
    }

    /// Whether nothing is printed.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether every line is printed, those of opened and ended conversations too.
    pub(super) fn prints_all(&self) -> bool {
        !self.is_paused && self.matcher.is_none()
    }

    /// Whether an exchange is printed. Counts it if only a pause prevents it.
    pub(super) fn selects(&mut self, exchange: &ExchangeRef<'_>) -> bool {
        let matches = match &mut self.matcher {
            Some(matcher) => matcher.matches(exchange, wall_clock_now()),
            None => true,
        };
        if let (true, true, Some(activity)) = (matches, self.is_paused, &self.activity) {
            activity.add_unprinted(1);
        }
        matches && !self.is_paused
    }

    /// Counts lines that would be printed but for a pause. A filter selects exchanges alone.
    pub(super) fn suppress(&self, lines: u64) {
        if let (true, None, Some(activity)) = (self.is_paused, &self.matcher, &self.activity) {
            activity.add_unprinted(lines);
        }
    }

    /// A conversation has ended.
    pub(super) fn forget(&mut self, conversation: ConversationId) {
        if let Some(matcher) = &mut self.matcher {
            matcher.forget(conversation);
        }
    }

    /// Counts the exchanges of a run.
    pub(super) fn count(&self, run: &RunEvent) {
        if let Some(activity) = &self.activity {
            let is_answered = run.outcome == Outcome::Ok;
            activity.add(run.count.into(), is_answered.then_some(run.latency_ns));
        }
    }

    /// Counts exchanges that a slow terminal did not get.
    pub(super) fn count_missed(&self, exchanges: u64) {
        if let Some(activity) = &self.activity {
            activity.add(exchanges, None);
        }
    }
}
