//! From what conversations tell to what the store keeps.
//!
//! Conversations put events into a batch of their worker (a shard), under a lock that only the recorder ever
//! contends for, and go on. The recorder comes by at its own pace, takes the batches of all shards, gives the
//! exchanges their ids, has the store keep everything, and hands the batches to whoever watches ([`RecorderTask`]).
//!
//! Each round is an *epoch*. What a conversation put in during epoch *e* is kept once `committed >= e`; that one
//! number is all that strict durability and back-pressure need, so nothing is counted per conversation here.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use echoic_core::{
    event::{Batch, ConversationId, Micros},
    store::{Last, Store, StoreError},
};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use crate::{
    feed::{Feed, Watcher, lock},
    journal::Journal,
};

/// How to record.
#[derive(Clone, Copy, Debug)]
pub struct RecorderOptions {
    /// Strict durability: a reply leaves after it is kept, not before.
    pub hold_replies: bool,
    /// From the first event of a round to the attempt to keep it. Longer rounds make cheaper commits.
    pub pace: Duration,
    /// A store that keeps nothing for this long has failed.
    pub patience: Duration,
    /// What becomes of exchanges when the store is slower than the wire.
    pub when_full: WhenFull,
    /// What all conversations together may have unrecorded, in bytes.
    pub behind_bytes_max: usize,
    /// What one of them may have unrecorded, in bytes.
    pub conversation_behind_bytes_max: usize,
    /// Batches filled at the same time; one a worker.
    pub shards: usize,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            hold_replies: false,
            pace: Duration::from_millis(20),
            patience: Duration::from_secs(5),
            when_full: WhenFull::Block,
            behind_bytes_max: 64 << 20,
            conversation_behind_bytes_max: 1 << 20,
            shards: 1,
        }
    }
}

/// What becomes of exchanges when the store is slower than the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The conversations that are ahead wait; the others do not notice.
    #[default]
    Block,
    /// They are served and not recorded, and counted.
    Drop,
}

/// How recording stands. Every exchange served while recording was asked for is in one of the three numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Exchanges the store has kept.
    pub recorded: u64,
    /// Exchanges served that will not be in the store.
    pub lost: u64,
    /// Exchanges served that will be in one of the two.
    pub waiting: u64,
    /// Since when and why nothing is being kept, if the store has failed.
    pub failure: Option<Failure>,
}

/// A store that keeps nothing for the time being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Wall clock of the first attempt that failed.
    pub since: Micros,
    /// What the store said.
    pub why: String,
    /// Exchanges served and not kept because of it, so far: some wait for the store's return, the others are lost.
    pub exchanges: u64,
}

/// Where conversations tell what happened. Clones are the same recorder.
#[derive(Clone)]
pub struct Recorder(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) shards: Box<[Shard]>,
    pub(crate) options: RecorderOptions,
    pub(crate) feed: Feed,
    has_store: bool,
    /// Something has been put in, or the end has come.
    pub(crate) due: Notify,
    /// Everything put in during this epoch, or before, is kept (or is known to be lost).
    pub(crate) committed: AtomicU64,
    pub(crate) failing: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// Whether there is a task that takes what is told.
    has_task: bool,
    recorded: AtomicU64,
    lost: AtomicU64,
    /// Exchanges taken from the shards and not kept.
    pending: AtomicU64,
    conversations: AtomicU64,
    closing: AtomicBool,
}

/// What the conversations of one worker have told and the recorder has not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) filling: Mutex<Filling>,
    /// Bytes that are told and not kept, for those who only want to look.
    pub(crate) used: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Filling {
    pub(crate) batch: Batch,
    /// Batches that are full: each is small enough to be still in the cache when it is kept.
    full: Vec<Batch>,
    full_bytes: usize,
    /// Empty ones with room, for when `batch` is full.
    spare: Vec<Batch>,
    pub(crate) epoch: u64,
    /// Bytes taken by the recorder and not yet kept.
    pub(crate) taken_bytes: usize,
    /// Exchanges that found no room since the last round.
    pub(crate) lost: u64,
    /// Nobody will take what is put in any more.
    pub(crate) closed: bool,
    /// Conversations that wait for a commit, and how often they have been woken so far.
    pub(crate) waiting: Vec<Waker>,
    pub(crate) wakes: u64,
}

impl Filling {
    /// Bytes told and not yet taken.
    pub(crate) fn size(&self) -> usize {
        self.full_bytes + self.batch.size()
    }

    fn exchanges(&self) -> u64 {
        let full = self.full.iter().map(Batch::exchanges);
        full.sum::<u64>() + self.batch.exchanges()
    }

    /// Goes on with an empty batch if this one is full.
    pub(crate) fn turn_over(&mut self) {
        if self.batch.size() >= ROUND_BYTES {
            self.full_bytes += self.batch.size();
            let empty = self.spare.pop().unwrap_or_default();
            self.full.push(mem::replace(&mut self.batch, empty));
        }
    }

    /// All there is, in order; what comes next goes into `empty`.
    fn take(&mut self, empty: Batch) -> Vec<Batch> {
        self.taken_bytes += self.size();
        self.full_bytes = 0;
        let mut taken = mem::take(&mut self.full);
        taken.push(mem::replace(&mut self.batch, empty));
        taken
    }
}

impl Default for Filling {
    fn default() -> Self {
        // Epochs begin at 1: nothing at all is committed at 0.
        Self {
            batch: Batch::default(),
            full: Vec::new(),
            full_bytes: 0,
            spare: Vec::new(),
            epoch: 1,
            taken_bytes: 0,
            lost: 0,
            closed: false,
            waiting: Vec::new(),
            wakes: 0,
        }
    }
}

/// A batch this large does not wait for the end of the pace.
pub(crate) const ROUND_BYTES: usize = 512 << 10;

/// Emptied batches kept for a worker: what it tells in 20 ms at full speed. More would only be memory.
const SPARE_MAX: usize = 6;

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
        Self(Arc::new(Shared {
            shards: (0..options.shards.max(1))
                .map(|_| Shard::default())
                .collect(),
            options,
            feed: Feed::default(),
            has_store,
            due: Notify::new(),
            committed: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            failure: Mutex::new(None),
            has_task,
            recorded: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            conversations: AtomicU64::new(last.conversation),
            closing: AtomicBool::new(false),
        }))
    }

    /// Looks on from now on.
    pub fn watch(&self) -> Watcher {
        self.0.feed.watch()
    }

    /// How recording stands.
    pub fn standing(&self) -> Standing {
        self.0.standing()
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

    /// A journal for what concerns no conversation.
    pub(crate) fn journal_of_all(&self, shard: usize) -> Journal {
        Journal::new(Arc::clone(&self.0), shard % self.0.shards.len(), 0)
    }

    /// The journal of a conversation that is not the server's: somebody else's, of one who called.
    pub fn conversation(&self) -> Journal {
        self.journal(0).1
    }

    pub(crate) fn journal(&self, shard: usize) -> (ConversationId, Journal) {
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

impl Shared {
    /// Whether anything that is told goes anywhere.
    pub(crate) fn is_active(&self) -> bool {
        self.has_task && (self.has_store || self.feed.is_watched())
    }

    fn standing(&self) -> Standing {
        let mut standing = Standing {
            recorded: self.recorded.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            waiting: self.pending.load(Ordering::Relaxed),
            failure: lock(&self.failure).clone(),
        };
        for shard in &self.shards {
            let filling = lock(&shard.filling);
            standing.lost += filling.lost;
            standing.waiting += filling.exchanges();
        }
        if let Some(failure) = &mut standing.failure {
            // It was noted down as what had been lost before.
            failure.exchanges =
                (standing.lost + standing.waiting).saturating_sub(failure.exchanges);
        }
        standing
    }

    /// Counts exchanges that will not be in the store, if there was to be one.
    pub(crate) fn lose(&self, exchanges: u64) {
        if self.has_store {
            self.lost.fetch_add(exchanges, Ordering::Relaxed);
        }
    }

    fn wake_all(&self) {
        for shard in &self.shards {
            let mut filling = lock(&shard.filling);
            filling.wakes += 1;
            filling.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// Whether what was told in `epoch` is kept.
    pub(crate) fn is_committed(&self, epoch: u64) -> bool {
        self.committed.load(Ordering::Acquire) >= epoch
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

mod task;
#[cfg(test)]
mod tests;

pub use task::RecorderTask;
