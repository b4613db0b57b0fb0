//! What happens now: joins events with their conversations, and hands them to the groups of subscribers.

use std::{collections::HashMap, sync::Arc};

use echoic_core::{
    event::{
        Batch, ConversationId, Ended, ExchangeId, Mark, Marked, Micros, Opened, RunEvent,
        ServerInfo,
    },
    exchange::{Conversation, Exchange},
};
use foldhash::fast::RandomState;

use super::{
    changes::Changes,
    group::Group,
    message,
    queue::Missed,
    second::{Client, Counted, Second},
};

/// Most ended clients that a tick chooses from.
const GONE_MAX: usize = 64;

/// The state of the live events.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// The last exchange that all groups have.
    pub(super) position: ExchangeId,
    pub(super) groups: Vec<Group>,
    pub(super) second: Second,
    pub(super) changes: Changes,
    /// Open conversations. Bounded by those of the server.
    open: HashMap<ConversationId, Open, RandomState>,
}

/// An open conversation.
#[derive(Debug)]
struct Open {
    conversation: Arc<Conversation>,
    /// Its position in [`Second::endpoints`].
    endpoint: usize,
    /// Number of its exchanges.
    exchanges: u64,
    /// Number of those since the last tick.
    in_second: u64,
}

impl Live {
    /// Whether something waits for the next flush.
    pub(super) fn has_events(&self) -> bool {
        !self.changes.is_empty() || self.groups.iter().any(Group::has_batch)
    }

    pub(super) fn conversation(&self, id: ConversationId) -> Option<&Arc<Conversation>> {
        self.open.get(&id).map(|open| &open.conversation)
    }

    /// Returns the ids of the conversations that are open.
    pub(super) fn open_ids(&self) -> impl Iterator<Item = ConversationId> {
        self.open.keys().copied()
    }

    pub(super) fn open_count(&self) -> u64 {
        self.open.len() as u64
    }

    /// Adds a conversation that has opened just now.
    pub(super) fn opened(&mut self, opened: &Opened, server: &Arc<ServerInfo>) {
        if self.open.contains_key(&opened.conversation) {
            return;
        }
        let conversation = Conversation::new(opened.clone(), Arc::clone(server));
        self.opened_now(&Arc::new(conversation));
    }

    /// Adds a conversation that has opened since the last look.
    pub(super) fn opened_now(&mut self, conversation: &Arc<Conversation>) {
        self.changes.opened(Arc::clone(conversation));
        let endpoint = self.learn(conversation, 0);
        if let Some(endpoint) = self.second.endpoints.get_mut(endpoint) {
            endpoint.opened += 1;
        }
    }

    /// Adds a conversation that opened earlier. Returns the position of its endpoint.
    pub(super) fn learn(&mut self, conversation: &Arc<Conversation>, exchanges: u64) -> usize {
        let endpoint = self.second.endpoint(&conversation.endpoint_info);
        if conversation.ended.is_some() {
            return endpoint;
        }
        if let Some(endpoint) = self.second.endpoints.get_mut(endpoint) {
            endpoint.open += 1;
        }
        let open = Open {
            endpoint,
            exchanges,
            in_second: 0,
            conversation: Arc::clone(conversation),
        };
        self.open.insert(conversation.id, open);
        endpoint
    }

    pub(super) fn mark(&mut self, mark: &Mark) {
        if let Marked::HalfClosed { .. } = mark.what {
            self.half_closed(mark.conversation, mark.at);
        }
    }

    pub(super) fn half_closed(&mut self, id: ConversationId, at: Micros) {
        let Some(open) = self.open.get_mut(&id) else {
            self.changes.missed();
            return;
        };
        if open.conversation.half_closed.is_none() {
            Arc::make_mut(&mut open.conversation).half_closed = Some(at);
            self.changes.half_closed(Arc::clone(&open.conversation));
        }
    }

    pub(super) fn ended(&mut self, ended: &Ended) {
        let Some(open) = self.open.get(&ended.conversation) else {
            // A slow store did not tell it in time. Subscribers learn that there is more to read.
            self.changes.missed();
            return;
        };
        let conversation = Conversation {
            ended: Some((ended.at, ended.ending.clone())),
            ..Conversation::clone(&open.conversation)
        };
        let exchanges = open.exchanges;
        self.ended_now(Arc::new(conversation), exchanges);
    }

    /// Removes a conversation that has ended.
    pub(super) fn ended_now(&mut self, conversation: Arc<Conversation>, exchanges: u64) {
        let Some(open) = self.open.remove(&conversation.id) else {
            return;
        };
        if let Some(endpoint) = self.second.endpoints.get_mut(open.endpoint) {
            endpoint.ended += 1;
            endpoint.open -= 1;
        }
        if open.in_second > 0 && self.second.gone.len() < GONE_MAX {
            let client = Client::new(&conversation, open.in_second);
            self.second.gone.push(client);
        }
        for group in &mut self.groups {
            group.forget(conversation.id);
        }
        self.changes.ended(conversation, exchanges);
    }

    /// Counts the exchanges of a run.
    pub(super) fn count_run(&mut self, run: &RunEvent) {
        let counted = Counted {
            exchanges: run.count.into(),
            request_bytes: run.request.len() as u64,
            reply_bytes: run.reply.len() as u64,
            latency_ns: run.latency_ns,
        };
        self.count(run.conversation, run.n + u64::from(run.count) - 1, counted);
    }

    fn count(&mut self, id: ConversationId, last_n: u64, counted: Counted) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if open.in_second == 0 {
            self.second.busy.push(id);
        }
        open.in_second += counted.exchanges;
        open.exchanges = open.exchanges.max(last_n);
        let role = open.conversation.role;
        self.second.add(counted, role, open.endpoint);
    }

    /// Adds the exchanges of a run to the groups.
    pub(super) fn run(&mut self, run: &RunEvent, first: ExchangeId, batch: &Batch, now: Micros) {
        let Some(open) = self.open.get(&run.conversation) else {
            return;
        };
        for group in &mut self.groups {
            let beyond = (self.position, now);
            group.add_run((run, first, batch), &open.conversation, beyond);
        }
    }

    /// Adds an exchange that was read from the store to the groups.
    pub(super) fn stored(&mut self, exchange: &Exchange, now: Micros) {
        for group in &mut self.groups {
            group.add(exchange.borrow(), now);
        }
        self.position = exchange.id;
    }

    /// Counts an exchange that was read from the store.
    pub(super) fn count_stored(&mut self, exchange: &Exchange) {
        let counted = Counted {
            exchanges: 1,
            request_bytes: exchange.request.len() as u64,
            reply_bytes: exchange.reply.len() as u64,
            latency_ns: exchange.latency_ns,
        };
        self.count(exchange.conversation.id, exchange.n, counted);
    }

    /// Forgets a conversation that is not in the store any more.
    pub(super) fn forget(&mut self, id: ConversationId) {
        if let Some(open) = self.open.remove(&id)
            && let Some(endpoint) = self.second.endpoints.get_mut(open.endpoint)
        {
            endpoint.open -= 1;
        }
    }

    /// Reports exchanges to all that are in no event, and goes on after an id.
    pub(super) fn skip_to(&mut self, position: ExchangeId, missed: Missed) {
        self.flush();
        self.miss(missed);
        self.position = self.position.max(position);
    }

    /// Reports exchanges to all that are in no event.
    pub(super) fn miss(&mut self, missed: Missed) {
        for group in &mut self.groups {
            group.send(&message::gap(missed));
        }
    }

    /// Sends what was added since the last flush.
    pub(super) fn flush(&mut self) {
        for group in &mut self.groups {
            group.flush(self.position, &self.changes);
        }
        self.changes.clear();
    }

    /// Returns the clients that had exchanges since the last tick, and forgets these counts.
    pub(super) fn take_clients(&mut self) -> Vec<Client> {
        let mut clients = std::mem::take(&mut self.second.gone);
        for id in &self.second.busy {
            if let Some(open) = self.open.get_mut(id) {
                clients.push(Client::new(&open.conversation, open.in_second));
                open.in_second = 0;
            }
        }
        clients
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::{
        ending::{CloseReason, Ending},
        filter::Expr,
    };

    use super::*;

    /// A store that answered too late left it unknown. Without a word of its end, a page would show it as open for ever.
    #[test]
    fn end_of_an_unknown_conversation_is_told_as_more() {
        let mut live = Live::default();
        live.ended(&Ended {
            conversation: 7,
            at: 1,
            ending: Ending {
                reason: CloseReason::PeerClosed,
                received: 0,
                sent: 0,
                unsent: 0,
                discarded: 0,
                left_over: None,
            },
        });
        live.half_closed(8, 1);
        assert!(live.has_events());
        let message = live.changes.message(&Expr::All).unwrap();
        let text = str::from_utf8(&message.text).unwrap();
        assert!(text.contains(r#""more":2"#), "{text}");
    }
}
