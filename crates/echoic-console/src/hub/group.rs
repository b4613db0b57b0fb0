//! The subscribers of one query: events are composed once for all of them.

use std::sync::Arc;

use echoic_core::{
    event::{Batch, ConversationId, ExchangeId, Micros, RunEvent},
    exchange::{Conversation, ExchangeRef, exchanges},
    filter::{Atom, Expr, Filter, Matcher},
};

use super::{
    changes::Changes,
    message,
    queue::{Message, Missed, Queue},
};

/// The subscribers of one query.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) query: String,
    matcher: Matcher,
    /// Whether the query selects every exchange.
    selects_all: bool,
    /// Conditions on what never changes in a conversation.
    of_conversation: Expr,
    subscribers: Vec<Arc<Queue>>,
    batch: message::Batch,
}

impl Group {
    pub(super) fn new(query: String, filter: Filter) -> Self {
        Self {
            query,
            selects_all: *filter.expr() == Expr::All && filter.steps().is_empty(),
            of_conversation: filter.necessary(is_fixed),
            matcher: Matcher::new(filter),
            subscribers: Vec::new(),
            batch: message::Batch::default(),
        }
    }

    /// Returns the filter of the query.
    pub(super) fn filter(&self) -> &Filter {
        self.matcher.filter()
    }

    pub(super) fn subscribe(&mut self, queue: Arc<Queue>) {
        self.subscribers.push(queue);
    }

    /// Whether an event waits for the next flush.
    pub(super) fn has_batch(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Removes subscribers that are gone. Returns whether there are others.
    pub(super) fn is_used(&mut self) -> bool {
        self.subscribers.retain(|queue| !queue.is_gone());
        !self.subscribers.is_empty()
    }

    /// Whether a subscriber would get an event now. Composing one would be for nothing if none does.
    fn has_room(&self) -> bool {
        self.subscribers.iter().any(|queue| queue.has_room())
    }

    /// Adds the exchanges of a run whose ids are above `position`.
    pub(super) fn add_run(
        &mut self,
        (run, first, batch): (&RunEvent, ExchangeId, &Batch),
        conversation: &Arc<Conversation>,
        (position, now): (ExchangeId, Micros),
    ) {
        let last = first + u64::from(run.count) - 1;
        if self.selects_all && first > position && (self.batch.is_full() || !self.has_room()) {
            self.batch.add_more((first, last), u64::from(run.count));
            return;
        }
        for exchange in exchanges(run, first, batch, conversation) {
            if exchange.id > position {
                self.add(exchange, now);
            }
        }
    }

    /// Adds an exchange if the query selects it.
    pub(super) fn add(&mut self, exchange: ExchangeRef<'_>, now: Micros) {
        if !self.selects_all && !self.matcher.matches(&exchange, now) {
            return;
        }
        if self.has_room() {
            self.batch.add(exchange);
        } else {
            self.batch.add_more((exchange.id, exchange.id), 1);
        }
    }

    pub(super) fn forget(&mut self, conversation: ConversationId) {
        self.matcher.forget(conversation);
    }

    /// Sends what was added since the last flush.
    pub(super) fn flush(&mut self, position: ExchangeId, changes: &Changes) {
        if changes.is_empty() {
            // Most flushes have exchanges alone.
        } else if !self.has_room() {
            let missed = Missed::default();
            self.subscribers.iter().for_each(|queue| queue.miss(missed));
        } else if let Some(message) = changes.message(&self.of_conversation) {
            self.send(&message);
        }
        if self.has_batch() {
            if self.has_room() {
                let message = self.batch.take(position);
                self.send(&message);
            } else {
                let missed = self.batch.missed();
                self.subscribers.iter().for_each(|queue| queue.miss(missed));
                self.batch.clear();
            }
        }
    }

    /// Sends an event to all.
    pub(super) fn send(&self, message: &Message) {
        for queue in &self.subscribers {
            queue.push(message);
        }
    }

    /// Sends the last event to all.
    pub(super) fn close(&self) {
        for queue in &self.subscribers {
            queue.close(message::BYE.into());
        }
    }
}

impl Drop for Group {
    /// Streams do not outlive the task that fills them.
    fn drop(&mut self) {
        self.subscribers.iter().for_each(|queue| queue.end());
    }
}

/// Whether a condition is on what never changes in a conversation: its end must be sent to who saw it open.
fn is_fixed(atom: &Atom) -> bool {
    matches!(
        atom,
        Atom::Peer(_)
            | Atom::Port(_)
            | Atom::Endpoint(_)
            | Atom::Protocol(_)
            | Atom::Service(_)
            | Atom::Role(_)
            | Atom::Server(_)
            | Atom::Sni(_)
            | Atom::Tls(_)
            | Atom::Conversation(_)
    )
}
