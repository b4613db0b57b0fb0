//! From what conversations tell to what the store keeps.
//!
//! Conversations put events into a batch of their worker (a shard), under a lock that only the recorder ever
//! contends for, and go on. The recorder comes by at its own pace, takes the batches of all shards, numbers them, has the
//! store commit everything, which gives the exchanges their ids, and hands the batches to whoever watches
//! ([`RecorderTask`]).
//!
//! Each round is an *epoch*. What a conversation put in during epoch *e* is kept once `committed >= e`; that one
//! number is all that strict durability and back-pressure need, so nothing is counted per conversation here.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use echoic_core::{
    event::{ConversationId, Server},
    store::{Store, StoreError},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    feed::Watcher,
    ids::{BLOCK, ConversationIds},
    journal::Journal,
    options::RecorderOptions,
    shared::Shared,
    status::RecorderStatus,
    task::RecorderTask,
};

/// Where conversations tell what happened. Clones are the same recorder.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

impl Recorder {
    /// A recorder for `store`, and the task that must be run for it. Asks the store for the first ids of conversations.
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

    /// A recorder that records nothing, for those who only want answers.
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

    /// The name of this start of the recorder, which stands in its batches.
    pub fn server(&self) -> &Arc<Server> {
        &self.0.server
    }

    /// Looks on from now on.
    pub fn watch(&self) -> Watcher {
        self.0.feed.watch()
    }

    /// How recording stands.
    pub fn status(&self) -> RecorderStatus {
        self.0.status()
    }

    /// Has everything told so far kept, and ends the task. What cannot be kept within `deadline` is counted as lost.
    pub async fn close(&self, mut task: JoinHandle<()>, deadline: Duration) {
        self.0.closing.store(true, Ordering::SeqCst);
        self.0.due.notify_one();
        if timeout(deadline, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
        self.0.feed.close();
    }

    /// A journal for what concerns no conversation, told by the worker of this number (`shard` modulo
    /// [`RecorderOptions::shards`]).
    pub fn journal_of_all(&self, shard: usize) -> Journal {
        Journal::new(Arc::clone(&self.0), shard % self.0.shards.len(), 0)
    }

    /// The journal of a new conversation on the worker of this number, and the conversation's id. A client is its own
    /// worker 0. The id is 0 if the store has failed for so long that none are left of those it had reserved: such a
    /// conversation is not recorded, and its exchanges count as lost.
    pub fn journal(&self, shard: usize) -> (ConversationId, Journal) {
        let (conversation, is_due) = self.0.conversations.take();
        if is_due {
            self.0.due.notify_one();
        }
        let (shared, shard) = (Arc::clone(&self.0), shard % self.0.shards.len());
        let journal = match conversation {
            0 => Journal::nameless(shared, shard),
            _ => Journal::new(shared, shard, conversation),
        };
        (conversation, journal)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("standing", &self.status())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
