//! Polls the store of another process for what is new.

use std::{collections::BTreeSet, sync::Arc};

use echoic_core::{
    event::ConversationId,
    exchange::Conversation,
    filter::Filter,
    store::{ConversationPage, FoundConversations, ListedConversation, Order, Store, StoreError},
};
use echoic_recorder::wall_clock_now;

use super::{
    live::Live,
    queue::Missed,
    reading::{READ_MAX, Reading},
};

/// Conversations that are read at the start, to find those that are open.
const AT_START: usize = 20_000;

/// Conversations that each poll reads: the newest.
const NEWEST: usize = 200;

/// Most conversations that are known to have been reported. Beyond, the oldest are forgotten.
const KNOWN_MAX: usize = 50_000;

/// Most open conversations whose end each check looks for.
const CHECKED_MAX: usize = 1000;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Poll {
    /// Conversations that subscribers know.
    known: BTreeSet<ConversationId>,
    /// The open conversation that was checked last.
    checked: ConversationId,
}

/// Result of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// The record goes on.
    Same,
    /// Another record has taken its place, whose ids are smaller.
    Replaced,
}

impl Poll {
    /// Finds the conversations that are open.
    pub(super) async fn start(
        &mut self,
        store: &dyn Store,
        live: &mut Live,
    ) -> Result<(), StoreError> {
        let (mut beyond, mut read) = (None, 0);
        while read < AT_START {
            let found = newest(store, beyond, 1000).await?;
            read += found.conversations.len();
            for listed in found.conversations {
                self.know(listed.conversation.id);
                live.learn(&Arc::new(listed.conversation), listed.exchanges);
            }
            match found.next {
                Some(next) => beyond = Some(next),
                None => break,
            }
        }
        Ok(())
    }

    /// Adds what is new since the last poll.
    pub(super) async fn poll(
        &mut self,
        store: &Arc<dyn Store>,
        live: &mut Live,
    ) -> Result<Polled, StoreError> {
        let last = store.last().await?.exchange;
        if last < live.position {
            return Ok(Polled::Replaced);
        }
        let found = newest(&**store, None, NEWEST).await?;
        for listed in found.conversations.into_iter().rev() {
            self.see(listed, live);
        }
        if last > live.position + READ_MAX {
            live.second.exchanges += last - live.position;
            live.skip_to(
                last,
                Missed {
                    ids: Some((live.position + 1, last)),
                    exchanges: last - live.position,
                },
            );
            return Ok(Polled::Same);
        }
        let mut reading = Reading::new(store, Filter::all(), live.position, last);
        let now = wall_clock_now();
        while let Some(exchanges) = reading.next().await? {
            for exchange in &exchanges {
                let id = exchange.conversation.id;
                if !self.known.contains(&id)
                    && live.conversation(id).is_none()
                    && let Some(listed) = store.conversation(id).await?
                {
                    self.see(listed, live);
                }
                live.count_stored(exchange);
                live.stored(exchange, now);
            }
        }
        live.position = live.position.max(last);
        Ok(Polled::Same)
    }

    /// Finds the ends of conversations that were open. To be called each second.
    pub(super) async fn check(
        &mut self,
        store: &dyn Store,
        live: &mut Live,
    ) -> Result<(), StoreError> {
        for id in next_checked(live.open_ids().collect(), self.checked) {
            self.checked = id;
            match store.conversation(id).await? {
                Some(listed) => self.see(listed, live),
                None => live.forget(id),
            }
        }
        Ok(())
    }

    /// Reports what is new of a conversation.
    fn see(&mut self, listed: ListedConversation, live: &mut Live) {
        let ListedConversation {
            conversation,
            exchanges,
            ..
        } = listed;
        let (id, half_closed) = (conversation.id, conversation.half_closed);
        let is_ended = conversation.ended.is_some();
        // One that is open may have been forgotten here.
        if self.know(id) && live.conversation(id).is_none() {
            let opened = Conversation {
                half_closed: None,
                ended: None,
                ..conversation.clone()
            };
            live.opened_now(&Arc::new(opened));
        }
        if let Some(at) = half_closed {
            live.half_closed(id, at);
        }
        if is_ended {
            live.ended_now(Arc::new(conversation), exchanges);
        }
    }

    /// Notes a conversation. Returns whether it was unknown.
    fn know(&mut self, id: ConversationId) -> bool {
        let is_new = self.known.insert(id);
        if self.known.len() > KNOWN_MAX {
            self.known.pop_first();
        }
        is_new
    }
}

/// Returns the conversations to check after the one checked last: the rest has its turn later.
fn next_checked(mut open: Vec<ConversationId>, last: ConversationId) -> Vec<ConversationId> {
    open.sort_unstable();
    let next = open.partition_point(|id| *id <= last);
    open.rotate_left(next);
    open.truncate(CHECKED_MAX);
    open
}

async fn newest(
    store: &dyn Store,
    beyond: Option<ConversationId>,
    limit: usize,
) -> Result<FoundConversations, StoreError> {
    let page = ConversationPage {
        order: Order::NewestFirst,
        beyond,
        limit,
        now: wall_clock_now(),
        without_exchanges: false,
    };
    store.conversations(&Filter::all(), page).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_open_conversation_has_its_turn() {
        let mut left: BTreeSet<ConversationId> = (1..=2500).collect();
        let mut last = 0;
        for _ in 0..3 {
            let turn = next_checked((1..=2500).rev().collect(), last);
            assert_eq!(turn.len(), CHECKED_MAX);
            last = turn[CHECKED_MAX - 1];
            left.retain(|id| !turn.contains(id));
        }
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(next_checked(vec![3, 1, 2], 2), [3, 1, 2]);
    }
}
