//! What a keeper has done, and what waits for keepers, for whoever watches one.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_nats::jetstream::ContextBuilder;
use echoic_core::store::StoreError;
use futures_util::future::try_join_all;

use crate::{
    Connection, NatsError,
    stream::{LANES, lane_consumer},
};

/// Time for JetStream to tell what waits.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(2);

/// What a keeper has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeeperTotals {
    /// Batches that the store has, those included that it had before.
    pub batches: u64,
    /// Their exchanges.
    pub exchanges: u64,
    /// Messages that came again: this keeper or another one had received and not acknowledged them.
    pub redeliveries: u64,
    /// Messages that cannot be read, put aside.
    pub unreadable: u64,
    /// Appends that failed. Each is tried again.
    pub failures: u64,
    /// When the store last committed.
    pub last_commit: Option<SystemTime>,
}

/// Counts what a keeper does.
#[derive(Debug, Default)]
pub struct KeeperCounts {
    batches: AtomicU64,
    exchanges: AtomicU64,
    redeliveries: AtomicU64,
    unreadable: AtomicU64,
    failures: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_commit: Option<SystemTime>,
    failure: Option<String>,
}

impl KeeperCounts {
    /// Returns the totals of now.
    pub fn totals(&self) -> KeeperTotals {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        KeeperTotals {
            batches: value(&self.batches),
            exchanges: value(&self.exchanges),
            redeliveries: value(&self.redeliveries),
            unreadable: value(&self.unreadable),
            failures: value(&self.failures),
            last_commit: self.state().last_commit,
        }
    }

    /// Returns why the store fails, while it does.
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    pub(crate) fn add_commit(&self, batches: u64, exchanges: u64) {
        self.batches.fetch_add(batches, Ordering::Relaxed);
        self.exchanges.fetch_add(exchanges, Ordering::Relaxed);
        let mut state = self.state();
        state.last_commit = Some(SystemTime::now());
        state.failure = None;
    }

    pub(crate) fn add_failure(&self, why: &StoreError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.state().failure = Some(why.to_string());
    }

    pub(crate) fn add_redelivery(&self) {
        self.redeliveries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a stream holds for keepers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that no keeper has received.
    pub pending: u64,
    /// Messages that a keeper has received and not yet acknowledged.
    pub unacknowledged: u64,
}

impl Backlog {
    /// Asks JetStream what waits in the stream of a connection.
    ///
    /// # Errors
    /// If JetStream does not answer in time, or has no such stream.
    pub async fn ask(connection: &Connection) -> Result<Self, NatsError> {
        let url = connection.url();
        let context = ContextBuilder::new()
            .timeout(BACKLOG_TIMEOUT)
            .build(connection.client.clone());
        let failed = |why: &dyn std::fmt::Display| NatsError::failed(url, why);
        let stream = context.get_stream_no_info(url.name()).await;
        let stream = stream.map_err(|error| failed(&error))?;
        let asked = (0..LANES).map(|lane| stream.consumer_info(lane_consumer(lane)));
        let lanes = try_join_all(asked).await.map_err(|error| failed(&error))?;
        Ok(Self {
            pending: lanes.iter().map(|lane| lane.num_pending).sum(),
            unacknowledged: lanes.iter().map(|lane| lane.num_ack_pending as u64).sum(),
        })
    }
}
