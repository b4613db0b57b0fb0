//! The peers of a socket, by who was heard last.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use echoic_core::{ending::CloseReason, event::ConversationId};
use echoic_wire::Route;
use tokio::time::Instant;

use super::talk::Talk;

/// Conversations of one socket at the same time. Addresses are easily forged: one more ends the one silent for longest.
pub(crate) const PEERS_MAX: usize = 4096;

/// Conversations in progress.
///
/// Hearing somebody touches nothing but its own entry; the list, which may then be late, is put right only when its
/// head is looked at. A head that is not late is truly the one silent for longest, since all others are listed later
/// and were heard no earlier than that.
#[derive(Default)]
pub(super) struct Peers {
    talks: HashMap<Route, Talk>,
    listed: BTreeMap<(Instant, u64), Route>,
    /// Conversations that their service has closed and that have an answer on its way. Who is heard again meanwhile
    /// has another one. No more of them than answers that may wait.
    leaving: HashMap<ConversationId, Talk>,
}

impl Peers {
    pub(super) fn get(&mut self, route: &Route) -> Option<&mut Talk> {
        self.talks.get_mut(route)
    }

    /// Takes in a conversation that has begun.
    pub(super) fn insert(&mut self, route: Route, talk: Talk) {
        while self.talks.len() >= PEERS_MAX {
            match self.silent_longest().map(|(_, route)| route.clone()) {
                Some(oldest) => self.end(&oldest, CloseReason::IdleTimeout),
                None => break,
            }
        }
        self.listed
            .insert((talk.listed_at, talk.conversation), route.clone());
        self.talks.insert(route, talk);
    }

    pub(super) fn end(&mut self, route: &Route, reason: CloseReason) {
        if let Some(talk) = self.talks.remove(route) {
            self.listed.remove(&(talk.listed_at, talk.conversation));
            talk.end(reason);
        }
    }

    /// Its service has closed it: it ends once its answers have left.
    pub(super) fn leave(&mut self, route: &Route) {
        if let Some(talk) = self.talks.remove(route) {
            self.listed.remove(&(talk.listed_at, talk.conversation));
            self.leaving.insert(talk.conversation, talk);
        }
    }

    /// The conversation that an answer along `route` is of, unless it has ended.
    pub(super) fn owed(
        &mut self,
        route: &Route,
        conversation: ConversationId,
    ) -> Option<&mut Talk> {
        let here = self.talks.get_mut(route);
        let here = here.filter(|talk| talk.conversation == conversation);
        here.or_else(|| self.leaving.get_mut(&conversation))
    }

    /// The same ends.
    pub(super) fn end_owed(
        &mut self,
        route: &Route,
        conversation: ConversationId,
        reason: CloseReason,
    ) {
        if let Some(talk) = self.leaving.remove(&conversation) {
            talk.end(reason);
        } else if self.owed(route, conversation).is_some() {
            self.end(route, reason);
        }
    }

    pub(super) fn is_leaving(&self, conversation: ConversationId) -> bool {
        self.leaving.contains_key(&conversation)
    }

    pub(super) fn end_all(&mut self, reason: CloseReason) {
        self.listed.clear();
        self.talks.drain().for_each(|(_, talk)| talk.end(reason));
    }

    /// Ends who has been silent for `gap`; returns when the next will have been.
    pub(super) fn end_idle(&mut self, now: Instant, gap: Duration) -> Option<Instant> {
        while let Some((received_at, route)) = self.silent_longest() {
            if received_at + gap > now {
                return Some(received_at + gap);
            }
            let route = route.clone();
            self.end(&route, CloseReason::IdleTimeout);
        }
        None
    }

    fn silent_longest(&mut self) -> Option<(Instant, &Route)> {
        loop {
            let entry = self.listed.first_entry()?;
            let listed_at = entry.key().0;
            let talk = self.talks.get_mut(entry.get())?;
            if talk.received_at == listed_at {
                return Some((listed_at, self.listed.first_key_value()?.1));
            }
            talk.listed_at = talk.received_at;
            let key = (talk.received_at, talk.conversation);
            let route = entry.remove();
            self.listed.insert(key, route);
        }
    }
}
