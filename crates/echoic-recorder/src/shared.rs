//! What a recorder, its task and its journals share.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use echoic_core::event::{ExchangeId, Server};
use tokio::sync::Notify;

use crate::{
    feed::Feed,
    filling::Shard,
    ids::ConversationIds,
    lock::lock,
    options::RecorderOptions,
    server::server,
    status::{Failure, RecorderStatus},
};

pub(crate) struct Shared {
    /// Who records.
    pub(crate) server: Arc<Server>,
    pub(crate) shards: Box<[Shard]>,
    pub(crate) options: RecorderOptions,
    pub(crate) feed: Feed,
    pub(crate) has_store: bool,
    /// Something has been put in, or the end has come.
    pub(crate) due: Notify,
    /// Everything put in during this epoch, or before, is kept (or is known to be lost).
    pub(crate) committed: AtomicU64,
    pub(crate) failing: AtomicBool,
    pub(crate) failure: Mutex<Option<Failure>>,
    /// Whether there is a task that takes what is told.
    pub(crate) has_task: bool,
    pub(crate) recorded: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Exchanges taken from the shards and not kept.
    pub(crate) pending: AtomicU64,
    pub(crate) conversations: ConversationIds,
    /// Ids that the store gave to exchanges which watchers were shown with the id 0: of the failure that ended last.
    pub(crate) recovered: Mutex<Option<(ExchangeId, ExchangeId)>>,
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
            conversations,
            recovered: Mutex::new(None),
            closing: AtomicBool::new(false),
        }
    }

    /// Whether anything that is told goes anywhere.
    pub(crate) fn is_active(&self) -> bool {
        self.has_task && (self.has_store || self.feed.is_watched())
    }

    pub(crate) fn status(&self) -> RecorderStatus {
        let mut status = RecorderStatus {
            recorded: self.recorded.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            waiting: self.pending.load(Ordering::Relaxed),
            failure: lock(&self.failure).clone(),
            recovered: *lock(&self.recovered),
        };
        for shard in &self.shards {
            let filling = lock(&shard.filling);
            status.lost += filling.lost;
            status.waiting += filling.exchanges();
        }
        if let Some(failure) = &mut status.failure {
            // It was noted down as what had been lost before.
            failure.exchanges = (status.lost + status.waiting).saturating_sub(failure.exchanges);
        }
        status
    }

    /// Counts exchanges that will not be in the store, if there was to be one.
    pub(crate) fn lose(&self, exchanges: u64) {
        if self.has_store {
            self.lost.fetch_add(exchanges, Ordering::Relaxed);
        }
    }

    pub(crate) fn wake_all(&self) {
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
