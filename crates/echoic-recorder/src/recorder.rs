//! From what conversations tell to what the store keeps.
//!
//! Conversations put events into a batch of their worker (a shard), under a lock that only the recorder ever
//! contends for, and go on. The recorder comes by at its own pace, takes the batches of all shards, gives the
//! exchanges their ids, has the store keep everything, and hands the batches to whoever watches ([`RecorderTask`]).
//!
//! Each round is an *epoch*. What a conversation put in during epoch *e* is kept once `committed >= e`; that one
//! number is all that strict durability and back-pressure need, so nothing is counted per conversation here.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use echoic_core::{
    event::ConversationId,
    store::{Last, Store, StoreError},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    feed::Watcher, journal::Journal, options::RecorderOptions, shared::Shared,
    status::RecorderStatus, task::RecorderTask,
};

/// Where conversations tell what happened. Clones are the same recorder.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

impl Recorder {
    /// A recorder for `store`, and the task that must be run for it. Asks the store where it leaves off.
    pub async fn new(
        store: Option<Arc<dyn Store>>,
        options: RecorderOptions,
    ) -> Result<(Self, RecorderTask), StoreError> {
        let last = match &store {
            Some(store) => store.last().await?,
            None => Last::default(),
        };
        let recorder = Self::start(last, store.is_some(), true, options);
        let task = RecorderTask::new(Arc::clone(&recorder.0), store, last.exchange + 1);
        Ok((recorder, task))
    }

    /// A recorder that records nothing, for those who only want answers.
    pub fn none() -> Self {
        Self::start(Last::default(), false, false, RecorderOptions::default())
    }

    fn start(last: Last, has_store: bool, has_task: bool, options: RecorderOptions) -> Self {
        Self(Arc::new(Shared::new(last, has_store, has_task, options)))
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
    /// worker 0.
    pub fn journal(&self, shard: usize) -> (ConversationId, Journal) {
        let conversation = self.0.conversations.fetch_add(1, Ordering::Relaxed) + 1;
        (
            conversation,
            Journal::new(
                Arc::clone(&self.0),
                shard % self.0.shards.len(),
                conversation,
            ),
        )
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
