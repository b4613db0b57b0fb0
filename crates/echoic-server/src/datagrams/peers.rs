//! The conversations of a socket, ordered by their last datagram.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use echoic_core::{ending::CloseReason, event::ConversationId};
use echoic_wire::Route;
use tokio::time::Instant;

use super::conversation::DatagramConversation;

/// Conversations of one socket at the same time. Source addresses can be forged, so one more ends the one that has been
/// silent the longest.
pub(crate) const PEERS_MAX: usize = 4096;

/// Open conversations.
///
/// A datagram updates only its own entry, so keys of the ordered list may be outdated. The head is corrected when it is
/// read. A head that is up to date has been silent the longest: all other keys are later, and their conversations have
/// received a datagram no earlier than their keys say.
#[derive(Default)]
pub(super) struct Peers {
    open: HashMap<Route, DatagramConversation>,
    by_silence: BTreeMap<(Instant, u64), Route>,
    /// Conversations that their service or an operator has closed and that still have queued replies, with their close
    /// reasons. The peer's next datagram opens another one. Bounded by the queue of replies.
    closing: HashMap<ConversationId, (DatagramConversation, CloseReason)>,
}

impl Peers {
    pub(super) fn get(&mut self, route: &Route) -> Option<&mut DatagramConversation> {
        self.open.get_mut(route)
    }

    /// The open conversation with this id, and its route. Looks at all of them.
    pub(super) fn find(
        &mut self,
        id: ConversationId,
    ) -> Option<(&Route, &mut DatagramConversation)> {
        self.open
            .iter_mut()
            .find(|(_, conversation)| conversation.id == id)
    }

    /// Adds a conversation.
    pub(super) fn insert(&mut self, route: Route, conversation: DatagramConversation) {
        while self.open.len() >= PEERS_MAX {
            match self.silent_longest().map(|(_, route)| route.clone()) {
                Some(oldest) => self.end(&oldest, CloseReason::IdleTimeout),
                None => break,
            }
        }
        self.by_silence
            .insert((conversation.listed_at, conversation.id), route.clone());
        self.open.insert(route, conversation);
    }

    pub(super) fn end(&mut self, route: &Route, reason: CloseReason) {
        if let Some(conversation) = self.open.remove(route) {
            self.by_silence
                .remove(&(conversation.listed_at, conversation.id));
            conversation.end(reason);
        }
    }

    /// Ends the conversation once its queued replies are sent.
    pub(super) fn close_after_replies(&mut self, route: &Route, reason: CloseReason) {
        if let Some(conversation) = self.open.remove(route) {
            self.by_silence
                .remove(&(conversation.listed_at, conversation.id));
            self.closing.insert(conversation.id, (conversation, reason));
        }
    }

    /// The conversation that a queued reply belongs to, unless it has ended.
    pub(super) fn conversation_of(
        &mut self,
        route: &Route,
        id: ConversationId,
    ) -> Option<&mut DatagramConversation> {
        let here = self.open.get_mut(route);
        let here = here.filter(|conversation| conversation.id == id);
        here.or_else(|| self.closing.get_mut(&id).map(|(closing, _)| closing))
    }

    /// Ends the conversation that a queued reply belongs to.
    pub(super) fn end_conversation_of(
        &mut self,
        route: &Route,
        id: ConversationId,
        reason: CloseReason,
    ) {
        if let Some((conversation, _)) = self.closing.remove(&id) {
            conversation.end(reason);
        } else if self.conversation_of(route, id).is_some() {
            self.end(route, reason);
        }
    }

    /// The close reason of a conversation that ends once its queued replies are sent.
    pub(super) fn closing_reason(&self, id: ConversationId) -> Option<CloseReason> {
        self.closing.get(&id).map(|(_, reason)| *reason)
    }

    pub(super) fn end_all(&mut self, reason: CloseReason) {
        self.by_silence.clear();
        self.open
            .drain()
            .for_each(|(_, conversation)| conversation.end(reason));
    }

    /// Ends conversations that have been silent for `idle_timeout`. Returns when the next one will have been.
    pub(super) fn end_idle(&mut self, now: Instant, idle_timeout: Duration) -> Option<Instant> {
        while let Some((received_at, route)) = self.silent_longest() {
            if received_at + idle_timeout > now {
                return Some(received_at + idle_timeout);
            }
            let route = route.clone();
            self.end(&route, CloseReason::IdleTimeout);
        }
        None
    }

    fn silent_longest(&mut self) -> Option<(Instant, &Route)> {
        loop {
            let entry = self.by_silence.first_entry()?;
            let listed_at = entry.key().0;
            let conversation = self.open.get_mut(entry.get())?;
            if conversation.received_at == listed_at {
                return Some((listed_at, self.by_silence.first_key_value()?.1));
            }
            conversation.listed_at = conversation.received_at;
            let key = (conversation.received_at, conversation.id);
            let route = entry.remove();
            self.by_silence.insert(key, route);
        }
    }
}
