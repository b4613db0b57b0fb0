//! The recorder, from which conversations get their journals.
//!
//! Conversations append events to a batch of their worker (a shard), under a lock that only the recorder's task contends
//! for. At each commit interval, and at once after a time without events, the task ([`RecorderTask`]) takes the batches of all shards, numbers them, appends them to
//! the store, which gives the exchanges their ids, and publishes them to the watchers.
//!
//! Each round is an *epoch*. An event recorded in epoch *e* is committed once `committed >= e`. Strict durability and
//! back-pressure need only this number, so the recorder counts nothing per conversation.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use echoic_core::{
    event::{ConversationId, ServerInfo},
    store::{Store, StoreError},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    counts::{Counts, EndpointCounts},
    feed::Watcher,
    ids::{BLOCK, ConversationIds},
    journal::Journal,
    lock::lock,
    options::RecorderOptions,
    shared::Shared,
    status::RecorderStatus,
    task::RecorderTask,
};

/// Gives out journals and status. Clones share one recorder.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

impl Recorder {
    /// Creates a recorder for `store`, and the task that the caller must run. Reserves the first ids of conversations.
    pub async fn new(
        store: Option<Arc<dyn Store>>,
        options: RecorderOptions,
    ) -> Result<(Self, RecorderTask), StoreError> {
        let ids = match &store {
            Some(store) => ConversationIds::reserved(store.reserve_conversations(BLOCK).await?),
            None => ConversationIds::counted(),
        };
        let recorder = Self::start(ids, store.is_some(), true, options);
        let task = RecorderTask::new(Arc::clone(&recorder.0), store);
        Ok((recorder, task))
    }

    /// Creates a recorder that records nothing.
    pub fn none() -> Self {
        Self::start(
            ConversationIds::counted(),
            false,
            false,
            RecorderOptions::default(),
        )
    }

    fn start(
        ids: ConversationIds,
        has_store: bool,
        has_task: bool,
        options: RecorderOptions,
    ) -> Self {
        Self(Arc::new(Shared::new(ids, has_store, has_task, options)))
    }

    /// Returns the identity of this recorder, which each of its batches carries.
    pub fn server(&self) -> &Arc<ServerInfo> {
        &self.0.server
    }

    /// Whether what is recorded goes to a store.
    pub fn has_store(&self) -> bool {
        self.0.has_store
    }

    /// Returns a watcher of the events that are published from now on.
    pub fn watch(&self) -> Watcher {
        self.0.feed.watch()
    }

    /// Returns the counts of exchanges and the state of the store.
    pub fn status(&self) -> RecorderStatus {
        self.0.status()
    }

    /// Begins to count committed events by endpoint. To be called before there are any: later ones whose conversation was not
    /// counted have no endpoint.
    pub fn count(&self) {
        lock(&self.0.counts).get_or_insert_with(Counts::default);
    }

    /// Returns the counts of committed events by endpoint since [`Recorder::count`]; the sum of all exchanges is then that of
    /// [`RecorderStatus::recorded`].
    pub fn endpoint_counts(&self) -> Vec<EndpointCounts> {
        let counts = lock(&self.0.counts);
        counts
            .as_ref()
            .map_or_else(Vec::new, |counts| counts.endpoints().to_vec())
    }

    /// Commits everything recorded so far and ends the task. Events not committed within `deadline` count as lost.
    pub async fn close(&self, mut task: JoinHandle<()>, deadline: Duration) {
        self.0.closing.store(true, Ordering::SeqCst);
        self.0.due.notify_one();
        if timeout(deadline, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
        self.0.feed.close();
    }

    /// Returns a journal that belongs to no conversation, for the worker with this number (`shard` modulo
    /// [`RecorderOptions::shards`]).
    pub fn journal_of_all(&self, shard: usize) -> Journal {
        Journal::new(Arc::clone(&self.0), shard % self.0.shards.len(), 0)
    }

    /// Returns the id and the journal of a new conversation on the worker with this number. A client is worker 0. The id
    /// is 0 if the store has failed for so long that all reserved ids are used: such a conversation is not recorded, and
    /// its exchanges count as lost.
    pub fn journal(&self, shard: usize) -> (ConversationId, Journal) {
        let (conversation, is_due) = self.0.conversations.take();
        if is_due {
            self.0.due.notify_one();
        }
        let (shared, shard) = (Arc::clone(&self.0), shard % self.0.shards.len());
        let journal = match conversation {
            0 => Journal::without_id(shared, shard),
            _ => Journal::new(shared, shard, conversation),
        };
        (conversation, journal)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
