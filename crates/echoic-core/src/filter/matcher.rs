//! Evaluates sequences (`A THEN B`) on exchanges that come one after the other.

use std::collections::BTreeMap;

use super::{Filter, Subject};
use crate::event::{ConversationId, Micros};

/// Most conversations whose progress is known. Beyond, those that opened first are forgotten: they begin anew.
const CONVERSATIONS_MAX: usize = 1 << 18;

/// A filter for exchanges in their order, as a live feed or a search from the beginning brings them.
///
/// It knows for each conversation how many steps of a sequence were reached, so its memory is bounded by the conversations
/// that are open. A filter without `THEN` needs no memory.
#[derive(Clone, Debug)]
pub struct Matcher {
    filter: Filter,
    /// Number of steps that exchanges have matched.
    reached: BTreeMap<ConversationId, usize>,
}

impl Matcher {
    /// Creates a matcher that has seen no exchange.
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            reached: BTreeMap::new(),
        }
    }

    /// Returns the filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether `subject` matches. It must be called with all exchanges of a conversation, in their order.
    pub fn matches(&mut self, subject: &impl Subject, now: Micros) -> bool {
        let steps = self.filter.steps();
        if steps.is_empty() {
            return self.filter.matches(subject, now);
        }
        let id = subject.conversation().id;
        let reached = self.reached.get(&id).copied().unwrap_or(0);
        let Some(step) = steps.get(reached) else {
            return self.filter.matches(subject, now);
        };
        // The earliest match of each step leaves the most exchanges for the steps after it.
        if step.matches(subject, now) {
            self.reached.insert(id, reached + 1);
            if self.reached.len() > CONVERSATIONS_MAX {
                self.reached.pop_first();
            }
        }
        false
    }

    /// Forgets a conversation that has ended.
    pub fn forget(&mut self, id: ConversationId) {
        self.reached.remove(&id);
    }
}
