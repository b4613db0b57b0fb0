//! When conversations were open.

use echoic_core::{
    event::Micros,
    filter::Filter,
    store::{ConversationPage, Order, Store, StoreError},
};
use echoic_recorder::wall_clock_now;

use super::Range;

/// Most conversations that are read for their openings and ends.
const CONVERSATIONS_MAX: usize = 20_000;

/// When conversations were open.
#[derive(Debug, Default)]
pub(super) struct Spans {
    spans: Vec<Span>,
    /// If there are older ones that were not read: when the oldest of those that were opened.
    known_from: Option<Micros>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    opened: Micros,
    ended: Option<Micros>,
    reset: bool,
}

/// Conversations of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfStep {
    pub(crate) opened: u64,
    pub(crate) ended: u64,
    pub(crate) reset: u64,
    /// Open at the end of the step.
    pub(crate) open: u64,
}

/// Conversations of each step; `None` where it is not known, since there are too many to look at all.
pub(crate) type BySteps = Vec<Option<OfStep>>;

impl Spans {
    pub(super) async fn read(store: &dyn Store, filter: &Filter) -> Result<Self, StoreError> {
        let mut spans = Self::default();
        let mut beyond = None;
        loop {
            let page = ConversationPage {
                order: Order::NewestFirst,
                beyond,
                limit: 1000,
                now: wall_clock_now(),
                without_exchanges: false,
            };
            let found = store.conversations(filter, page).await?;
            spans.spans.extend(found.conversations.iter().map(|listed| {
                let conversation = &listed.conversation;
                let ended = conversation.ended.as_ref();
                Span {
                    opened: conversation.opened,
                    ended: ended.map(|(at, _)| *at),
                    reset: ended.is_some_and(|(_, ending)| ending.reason.class() == "rst"),
                }
            }));
            beyond = found.next;
            if beyond.is_none() || spans.spans.len() >= CONVERSATIONS_MAX {
                let oldest = spans.spans.iter().map(|span| span.opened).min();
                spans.known_from = oldest.filter(|_| beyond.is_some());
                return Ok(spans);
            }
        }
    }

    /// Whether there are older ones that were not read.
    pub(super) fn is_partial(&self) -> bool {
        self.known_from.is_some()
    }

    pub(super) fn by_step(&self, range: &Range) -> BySteps {
        let mut steps = vec![OfStep::default(); range.steps()];
        let mut open: u64 = 0;
        for span in &self.spans {
            if span.opened < range.from && span.ended.is_none_or(|ended| ended >= range.from) {
                open += 1;
            }
            if let Some(step) = range.index(span.opened) {
                steps[step].opened += 1;
            }
            let ended = span.ended.filter(|ended| *ended >= range.from);
            if let Some(step) = ended.and_then(|ended| range.index(ended)) {
                steps[step].ended += 1;
                steps[step].reset += u64::from(span.reset);
            }
        }
        for step in &mut steps {
            open = (open + step.opened).saturating_sub(step.ended);
            step.open = open;
        }
        let is_known = |at: Micros| self.known_from.is_none_or(|known_from| at >= known_from);
        let steps = range.times().zip(steps);
        steps
            .map(|(at, step)| is_known(at).then_some(step))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_before_the_oldest_conversation_that_was_read_are_unknown() {
        let span = |opened| Span {
            opened,
            ended: Some(opened + 5),
            reset: false,
        };
        let range = Range {
            filter: Filter::all(),
            from: 0,
            to: 40,
            step: 10,
        };
        let mut spans = Spans {
            spans: vec![span(32), span(21), span(15)],
            known_from: None,
        };
        let opened = |spans: &Spans| -> Vec<Option<u64>> {
            let steps = spans.by_step(&range);
            steps
                .iter()
                .map(|step| step.map(|step| step.opened))
                .collect()
        };
        assert_eq!(opened(&spans), [Some(0), Some(1), Some(1), Some(1)]);
        spans.known_from = Some(15);
        assert_eq!(opened(&spans), [None, None, Some(1), Some(1)]);
    }
}
