//! State shared by a recorder, its task and its journals.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::Waker,
};

use echoic_core::event::{ExchangeId, ServerInfo};
use tokio::sync::Notify;

use crate::{
    counts::Counts,
    feed::Feed,
    ids::ConversationIds,
    lock::lock,
    options::RecorderOptions,
    server::server,
    shard::Shard,
    status::{Failure, RecorderStatus},
};

pub(crate) struct Shared {
    /// Identity of this recorder.
    pub(crate) server: Arc<ServerInfo>,
    pub(crate) shards: Box<[Shard]>,
    pub(crate) options: RecorderOptions,
    pub(crate) feed: Feed,
    pub(crate) has_store: bool,
    /// Wakes the task: there are events to take, ids to reserve, or the recorder closes.
    pub(crate) due: Notify,
    /// Last epoch whose events are all committed (or counted as lost).
    pub(crate) committed: AtomicU64,
    pub(crate) failing: AtomicBool,
    pub(crate) failure: Mutex<Option<Failure>>,
    /// Whether a task takes the recorded events.
    pub(crate) has_task: bool,
    pub(crate) recorded: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Exchanges taken from the shards and not yet committed.
    pub(crate) pending: AtomicU64,
    /// Wall-clock time of the last commit to the store; 0 before the first.
    pub(crate) committed_at: AtomicI64,
    pub(crate) conversations: ConversationIds,
    /// Ids that the store gave to exchanges published with the id 0 during the last failure.
    pub(crate) recovered: Mutex<Option<(ExchangeId, ExchangeId)>>,
    /// Counts by endpoint, once somebody reads them.
    pub(crate) counts: Mutex<Option<Counts>>,
    pub(crate) closing: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        conversations: ConversationIds,
        has_store: bool,
        has_task: bool,
        options: RecorderOptions,
    ) -> Self {
        Self {
            server: Arc::new(server()),
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
            committed_at: AtomicI64::new(0),
            conversations,
            recovered: Mutex::new(None),
            counts: Mutex::new(None),
            closing: AtomicBool::new(false),
        }
    }

    /// Whether recorded events reach a store or a watcher.
    pub(crate) fn is_active(&self) -> bool {
        self.has_task && (self.has_store || self.feed.is_watched())
    }

    pub(crate) fn status(&self) -> RecorderStatus {
        let committed = self.committed_at.load(Ordering::Relaxed);
        let mut status = RecorderStatus {
            recorded: self.recorded.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            waiting: self.pending.load(Ordering::Relaxed),
            waiting_bytes: 0,
            committed: (committed > 0).then_some(committed),
            failure: lock(&self.failure).clone(),
            recovered: *lock(&self.recovered),
        };
        for shard in &self.shards {
            let state = lock(&shard.state);
            status.lost += state.lost;
            status.waiting += state.exchanges();
            status.waiting_bytes += (state.size() + state.taken_bytes) as u64;
        }
        if let Some(failure) = &mut status.failure {
            // Until here it is the count of exchanges lost before the failure.
            failure.exchanges = (status.lost + status.waiting).saturating_sub(failure.exchanges);
        }
        status
    }

    /// Counts exchanges as lost, if there is a store.
    pub(crate) fn lose(&self, exchanges: u64) {
        if self.has_store {
            self.lost.fetch_add(exchanges, Ordering::Relaxed);
        }
    }

    pub(crate) fn wake_all(&self) {
        for shard in &self.shards {
            let mut state = lock(&shard.state);
            state.wake_count += 1;
            state.wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// Whether the events of `epoch` are committed.
    pub(crate) fn is_committed(&self, epoch: u64) -> bool {
        self.committed.load(Ordering::Acquire) >= epoch
    }
}
