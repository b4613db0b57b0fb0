//! The recorder's task: in each round takes the batches of the shards, commits them to the store and publishes them.

use std::{
    fmt, mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use echoic_core::{
    event::{Batch, Event, ExchangeId, Mark, Marked, Micros},
    store::{BATCHES_KNOWN, Store, StoreError},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    clock::wall_clock_now,
    ids::BLOCK,
    lock::lock,
    pace::Pace,
    shard::{EMPTY_BATCHES_MAX, ROUND_BYTES, Shard},
    shared::Shared,
    status::Failure,
};

/// Approximate bytes of one append. After a failure the backlog is committed in parts of this size, so that each needs
/// only its own room on a disk that was full, and in the memory that SQLite uses for a transaction.
const APPEND_BYTES: usize = 4 << 20;

/// Maximum capacity in bytes that an emptied batch retains for the next round.
const EMPTY_BATCH_BYTES: usize = 1 << 20;

/// Time between attempts to append or to reserve ids.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// Maximum of batches in one append: the store must know the ids of all batches whose outcome may be uncertain.
const APPEND_BATCHES: usize = 4_096;
const _: () = assert!((APPEND_BATCHES as u64) < BATCHES_KNOWN / 2);

/// The recorder's task. Run it on any tokio runtime, until [`Recorder::close`](crate::Recorder::close) makes it return.
#[must_use = "nothing is recorded unless the task is run"]
pub struct RecorderTask {
    shared: Arc<Shared>,
    store: Option<Arc<dyn Store>>,
    /// Number of the last batch taken.
    number: u64,
    /// Batches taken and not yet committed, in order. More than one round only while the store fails.
    pending: Vec<Arc<Batch>>,
    /// Number of batches at the start of `pending` that have been published, with the id 0.
    published: usize,
    /// Empty batches to reuse.
    empty: Vec<Batch>,
    /// Committed batches that a watcher still holds; reused when it has dropped them.
    watched: Vec<Arc<Batch>>,
    /// Start of the first attempt since the last commit.
    trying_since: Option<Instant>,
    /// Error of the last attempt since then.
    error: Option<String>,
    /// Count of lost exchanges that no gap batch records yet, and the time of the first.
    lost: Option<(u64, Micros)>,
    /// The batch that records earlier losses as a gap. It is frozen at its first attempt, which may have been stored
    /// without an answer: later losses go into the next one.
    gap: Option<Arc<Batch>>,
    /// When to reserve conversation ids again, after an attempt that failed.
    refill_at: Option<Instant>,
}

impl RecorderTask {
    pub(crate) fn new(shared: Arc<Shared>, store: Option<Arc<dyn Store>>) -> Self {
        Self {
            shared,
            store,
            number: 0,
            pending: Vec::new(),
            published: 0,
            empty: Vec::new(),
            watched: Vec::new(),
            trying_since: None,
            error: None,
            lost: None,
            gap: None,
            refill_at: None,
        }
    }

    /// Runs until the recorder is closed and all recorded events are committed.
    pub async fn run(mut self) {
        let mut pace = Pace::new(self.shared.options.commit_interval);
        loop {
            self.wait_for_work().await;
            let closing = self.shared.closing.load(Ordering::SeqCst);
            if !closing && !self.shared.options.hold_replies {
                // Collects events until a round may begin, unless there are many: at once if there was none for a while.
                let _ = timeout_at(pace.next(), self.large_round()).await;
            }
            let began = Instant::now();
            self.take_round();
            while !self.pending.is_empty() || (closing && self.has_lost()) {
                if self.commit_pending().await {
                    break;
                }
                sleep(RETRY).await;
                self.refill_ids().await;
                self.take_round();
            }
            if closing {
                return;
            }
            pace.committed(began);
            self.refill_ids().await;
        }
    }

    /// Reserves the next block of conversation ids, if it is due. Gives up after [`RETRY`] and tries again after as long:
    /// an unresponsive store must not stop the recorder's other work.
    async fn refill_ids(&mut self) {
        let Some(store) = self
            .store
            .as_ref()
            .filter(|_| self.shared.conversations.is_low())
        else {
            return;
        };
        if self.refill_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.refill_at = None;
        match timeout(RETRY, store.reserve_conversations(BLOCK)).await {
            Ok(Ok(first)) => self.shared.conversations.add(first),
            failed => {
                tracing::debug!("cannot reserve conversation ids: {failed:?}");
                self.refill_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Returns when there are events to take, the recorder closes, or ids are to be reserved again.
    async fn wait_for_work(&self) {
        let due = self.shared.due.notified();
        match self.refill_at {
            Some(at) => drop(timeout_at(at, due).await),
            None => due.await,
        }
    }

    fn has_lost(&self) -> bool {
        self.lost.is_some() || self.gap.is_some()
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Returns when a shard holds [`ROUND_BYTES`], or when the recorder closes.
    async fn large_round(&self) {
        let is_large = |shard: &Shard| lock(&shard.state).size() >= ROUND_BYTES;
        while !self.shared.shards.iter().any(is_large) {
            self.shared.due.notified().await;
            if self.shared.closing.load(Ordering::SeqCst) {
                self.shared.due.notify_one();
                return;
            }
        }
    }

    /// Takes the batches of all shards, ends their epoch, and numbers the batches.
    fn take_round(&mut self) {
        for batch in mem::take(&mut self.watched) {
            self.reuse(batch);
        }
        let mut lost = 0;
        for shard in &self.shared.shards {
            let empty = self.empty.pop().unwrap_or_default();
            let mut state = lock(&shard.state);
            state.epoch += 1;
            lost += mem::take(&mut state.lost);
            let batches = state.take_batches(empty);
            let room = EMPTY_BATCHES_MAX - state.empty.len().min(EMPTY_BATCHES_MAX);
            let rest = self.empty.len().saturating_sub(room);
            state.empty.extend(self.empty.drain(rest..));
            drop(state);
            for mut batch in batches {
                if batch.is_empty() {
                    self.empty.push(batch);
                } else {
                    batch.server = Arc::clone(&self.shared.server);
                    self.number += 1;
                    batch.number = self.number;
                    let exchanges = batch.exchanges();
                    self.shared.pending.fetch_add(exchanges, Ordering::Relaxed);
                    self.pending.push(Arc::new(batch));
                }
            }
        }
        if lost > 0 {
            self.shared.lost.fetch_add(lost, Ordering::Relaxed);
            let (exchanges, _) = self.lost.get_or_insert_with(|| (0, wall_clock_now()));
            *exchanges += lost;
            self.shared.feed.add_lost(lost);
        }
        if self.pending.is_empty() {
            self.finish_epoch();
        }
    }

    /// Commits everything pending, part after part. Returns false if an append fails.
    async fn commit_pending(&mut self) -> bool {
        while !self.pending.is_empty() || self.has_lost() {
            let since = *self.trying_since.get_or_insert_with(Instant::now);
            let count = self.next_append_len();
            let appended = match self.store.clone() {
                Some(store) => self.append(&*store, count).await,
                None => Ok(vec![0; count]),
            };
            match appended {
                Ok(first_ids) => self.committed(count, &first_ids),
                Err(error) => {
                    // The error may be transient: a lock, or a disk without room for a moment. The store fails only
                    // after the same timeout as an unresponsive one.
                    let why = error.to_string();
                    if since.elapsed() >= self.shared.options.store_timeout {
                        self.fail(&why);
                    }
                    self.error = Some(why);
                    self.publish_while_failing();
                    return false;
                }
            }
        }
        self.all_committed();
        true
    }

    /// Returns the number of batches for one append: the first, and others up to [`APPEND_BYTES`].
    fn next_append_len(&self) -> usize {
        let mut bytes = 0;
        let fits = |batch: &&Arc<Batch>| {
            bytes += batch.size();
            bytes <= APPEND_BYTES
        };
        let fitting = self.pending.iter().take(APPEND_BATCHES).take_while(fits);
        fitting.count().max(1).min(self.pending.len())
    }

    async fn append(
        &mut self,
        store: &dyn Store,
        count: usize,
    ) -> Result<Vec<ExchangeId>, StoreError> {
        if self.gap.is_none()
            && let Some((exchanges, since)) = self.lost.take()
        {
            self.gap = Some(Arc::new(self.gap_batch(exchanges, since)));
        }
        let mut batches = self.pending[..count].to_vec();
        batches.extend(self.gap.clone());
        let mut appending = store.append(batches);
        let tried = self
            .trying_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        let remaining = self.shared.options.store_timeout.saturating_sub(tried);
        if let Ok(appended) = timeout(remaining, &mut appending).await {
            return appended;
        }
        // For the conversations the store has failed now. The attempt itself continues, rather than being repeated while
        // the store is still busy with it.
        let why = self.error.take();
        self.fail(why.as_deref().unwrap_or("the store gave no answer"));
        loop {
            self.publish_while_failing();
            if let Ok(appended) = timeout(RETRY, &mut appending).await {
                return appended;
            }
            self.take_round();
        }
    }

    fn gap_batch(&mut self, exchanges: u64, since: Micros) -> Batch {
        let mark = Event::Mark(Mark {
            conversation: 0,
            at: since,
            what: Marked::Gap { exchanges, since },
        });
        let mut batch = Batch::default();
        batch.server = Arc::clone(&self.shared.server);
        batch.number = self.next_number();
        batch.events.push(mark);
        batch
    }

    /// Publishes pending batches without ids, and the status, while the store fails.
    fn publish_while_failing(&mut self) {
        if !self.shared.failing.load(Ordering::Relaxed) {
            return;
        }
        let batches = self.pending[self.published..].iter();
        self.shared.feed.publish(&batches.map(|batch| (0, batch)));
        self.published = self.pending.len();
        self.shared.feed.publish_status(&self.shared.status());
    }

    /// Publishes and counts the first `count` pending batches after their commit, and the gap committed with them.
    fn committed(&mut self, count: usize, first_ids: &[ExchangeId]) {
        let batches = self.pending[..count].iter();
        let named = first_ids.iter().copied().zip(batches);
        let published = self.published.min(count);
        for (first, batch) in named.clone().take(published) {
            self.recovered(first, batch.exchanges());
        }
        let exchanges = named.clone().map(|(_, batch)| batch.exchanges()).sum();
        self.shared.feed.publish(&named.skip(published));
        if self.store.is_some() {
            self.shared.recorded.fetch_add(exchanges, Ordering::Relaxed);
            let now = wall_clock_now();
            self.shared.committed_at.store(now, Ordering::Relaxed);
        }
        self.shared.pending.fetch_sub(exchanges, Ordering::Relaxed);
        self.gap = None;
        if self.store.is_none() {
            self.lost = None;
        }
        self.trying_since = None;
        self.error = None;
        self.published -= published;
        if let Some(counts) = &mut *lock(&self.shared.counts) {
            self.pending[..count]
                .iter()
                .for_each(|batch| counts.add(batch));
        }
        let committed: Vec<_> = self.pending.drain(..count).collect();
        for batch in committed {
            self.reuse(batch);
        }
    }

    /// Notes the ids of exchanges that were published with the id 0.
    fn recovered(&self, first: ExchangeId, exchanges: u64) {
        if first == 0 || exchanges == 0 {
            return;
        }
        let last = first + exchanges - 1;
        let mut recovered = lock(&self.shared.recovered);
        *recovered = Some((recovered.map_or(first, |(known, _)| known), last));
    }

    /// Empties a committed batch for reuse, unless there are enough empty ones.
    fn reuse(&mut self, batch: Arc<Batch>) {
        let max = EMPTY_BATCHES_MAX * self.shared.shards.len();
        match Arc::try_unwrap(batch) {
            Ok(mut batch) if self.empty.len() < max => {
                batch.clear(EMPTY_BATCH_BYTES);
                self.empty.push(batch);
            }
            Err(watched) if self.watched.len() < max => self.watched.push(watched),
            Ok(_) | Err(_) => {}
        }
    }

    fn all_committed(&mut self) {
        if self.shared.failing.swap(false, Ordering::SeqCst) {
            *lock(&self.shared.failure) = None;
            tracing::debug!("recording again");
            self.shared.feed.publish_status(&self.shared.status());
        }
        self.finish_epoch();
    }

    /// Marks the store as failing and wakes all conversations. Attempts continue.
    fn fail(&self, why: &str) {
        if !self.shared.failing.swap(true, Ordering::SeqCst) {
            *lock(&self.shared.recovered) = None;
            *lock(&self.shared.failure) = Some(Failure {
                since: wall_clock_now(),
                why: why.to_owned(),
                exchanges: self.shared.status().lost,
            });
            tracing::debug!("not recording: {why}");
            self.shared.feed.publish_status(&self.shared.status());
        }
        self.shared.wake_all();
    }

    /// Marks the epochs taken so far as committed, and wakes the tasks that wait for them.
    fn finish_epoch(&mut self) {
        for shard in &self.shared.shards {
            let mut state = lock(&shard.state);
            state.taken_bytes = 0;
            shard
                .uncommitted_bytes
                .store(state.size(), Ordering::Relaxed);
            // The same epoch in every shard, since all are taken in the same round.
            self.shared
                .committed
                .store(state.epoch - 1, Ordering::Release);
        }
        self.shared.wake_all();
    }
}

impl Drop for RecorderTask {
    /// Counts everything not committed as lost and wakes the waiting tasks, whether the task was closed, aborted or has
    /// panicked.
    fn drop(&mut self) {
        let exchanges =
            |batches: &[Arc<Batch>]| -> u64 { batches.iter().map(|batch| batch.exchanges()).sum() };
        let published = exchanges(&self.pending[..self.published.min(self.pending.len())]);
        let mut lost = exchanges(&self.pending);
        self.shared.pending.store(0, Ordering::Relaxed);
        for shard in &self.shared.shards {
            let mut state = lock(&shard.state);
            state.closed = true;
            lost += mem::take(&mut state.lost) + state.exchanges();
            drop(state.take_batches(Batch::default()));
        }
        self.shared.lose(lost);
        self.shared.feed.add_lost(lost - published);
        if self.shared.closing.load(Ordering::SeqCst) {
            self.shared.failing.store(true, Ordering::SeqCst);
            self.shared.wake_all();
        } else {
            self.fail("the recorder has stopped");
        }
    }
}

impl fmt::Debug for RecorderTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecorderTask")
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}
