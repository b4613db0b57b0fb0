//! The recorder's own work: round after round, from the shards to the store and to whoever watches.

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
    clock::wall,
    filling::{ROUND_BYTES, SPARE_MAX, Shard},
    ids::BLOCK,
    lock::lock,
    shared::Shared,
    status::Failure,
};

/// What is kept in one transaction, about. Of what waited for a store's return each part needs room only for itself, on
/// a disk that was full and in the memory that SQLite has for a transaction.
const APPEND_BYTES: usize = 4 << 20;

/// Room that an emptied batch keeps for the next round, in bytes.
const SPARE_BYTES: usize = 1 << 20;

/// From a failed attempt to the next.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// Batches in one transaction at most: the store has to know the names of all that may be in doubt.
const APPEND_BATCHES: usize = 4_096;
const _: () = assert!((APPEND_BATCHES as u64) < BATCHES_KNOWN / 2);

/// The recorder's own work: run it on any runtime, until [`Recorder::close`](crate::Recorder::close) makes it return.
#[must_use = "nothing is recorded unless the task is run"]
pub struct RecorderTask {
    shared: Arc<Shared>,
    store: Option<Arc<dyn Store>>,
    /// The number of the batch that was taken last.
    number: u64,
    /// Batches taken and not committed yet, in order; more than one round only while the store fails.
    pending: Vec<Arc<Batch>>,
    /// How many of `pending`, from the first, watchers have been shown already, with the id 0.
    shown: usize,
    spare: Vec<Batch>,
    /// Committed, and still looked at by a watcher: spare ones when it has done with them.
    lent: Vec<Arc<Batch>>,
    /// When the first attempt to append this began; no commit since then.
    trying_since: Option<Instant>,
    /// Exchanges lost that no batch tells of yet, and since when.
    lost: Option<(u64, Micros)>,
    /// The batch that tells of those lost before. It is frozen at its first attempt, since that may have been stored
    /// without an answer: what is lost later goes into the next.
    gap: Option<Arc<Batch>>,
    /// When to ask again for ids of conversations, after the store gave none.
    refill_at: Option<Instant>,
}

impl RecorderTask {
    pub(crate) fn new(shared: Arc<Shared>, store: Option<Arc<dyn Store>>) -> Self {
        Self {
            shared,
            store,
            number: 0,
            pending: Vec::new(),
            shown: 0,
            spare: Vec::new(),
            lent: Vec::new(),
            trying_since: None,
            lost: None,
            gap: None,
            refill_at: None,
        }
    }

    /// Records until the recorder is closed and all that was told is committed.
    pub async fn run(mut self) {
        loop {
            self.due().await;
            let closing = self.shared.closing.load(Ordering::SeqCst);
            if !closing && !self.shared.options.hold_replies {
                // At its own pace, unless there is much to do.
                let _ = timeout(self.shared.options.pace, self.much_to_do()).await;
            }
            self.take();
            while !self.pending.is_empty() || (closing && self.has_lost()) {
                if self.keep().await {
                    break;
                }
                sleep(RETRY).await;
                self.refill_ids().await;
                self.take();
            }
            if closing {
                return;
            }
            self.refill_ids().await;
        }
    }

    /// Reserves the next block of conversation ids, if it is due. Gives up after [`RETRY`], and tries again in as long: a
    /// store that is silent must not keep the recorder from what else it has to do.
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
                tracing::debug!("no ids of conversations: {failed:?}");
                self.refill_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Returns when something has been put in, the recorder closes, or ids are to be reserved again.
    async fn due(&self) {
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

    /// Returns when a shard holds so much that the round should not wait, or when the recorder closes.
    async fn much_to_do(&self) {
        let much = |shard: &Shard| lock(&shard.filling).size() >= ROUND_BYTES;
        while !self.shared.shards.iter().any(much) {
            self.shared.due.notified().await;
            if self.shared.closing.load(Ordering::SeqCst) {
                self.shared.due.notify_one();
                return;
            }
        }
    }

    /// Takes what the shards hold, ends their epoch, and names the batches.
    fn take(&mut self) {
        for batch in mem::take(&mut self.lent) {
            self.reuse(batch);
        }
        let mut lost = 0;
        for shard in &self.shared.shards {
            let empty = self.spare.pop().unwrap_or_default();
            let mut filling = lock(&shard.filling);
            filling.epoch += 1;
            lost += mem::take(&mut filling.lost);
            let batches = filling.take(empty);
            let room = SPARE_MAX - filling.spare.len().min(SPARE_MAX);
            let spare = self.spare.len().saturating_sub(room);
            filling.spare.extend(self.spare.drain(spare..));
            drop(filling);
            for mut batch in batches {
                if batch.is_empty() {
                    self.spare.push(batch);
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
            let (exchanges, _) = self.lost.get_or_insert_with(|| (0, wall()));
            *exchanges += lost;
            self.shared.feed.miss(lost);
        }
        if self.pending.is_empty() {
            self.finish_epoch();
        }
    }

    /// Tries to have everything pending committed, part after part; whether it was.
    async fn keep(&mut self) -> bool {
        while !self.pending.is_empty() || self.has_lost() {
            let since = *self.trying_since.get_or_insert_with(Instant::now);
            let part = self.part();
            let appended = match self.store.clone() {
                Some(store) => self.append(&*store, part).await,
                None => Ok(vec![0; part]),
            };
            match appended {
                Ok(first_ids) => self.committed(part, &first_ids),
                Err(error) => {
                    // An error may pass by itself, a lock or a moment without room: the store has as long as a silent one.
                    if since.elapsed() >= self.shared.options.patience {
                        self.fail(&error.to_string());
                    }
                    self.show_while_failing();
                    return false;
                }
            }
        }
        self.all_committed();
        true
    }

    /// How many batches go in one transaction: the first, and others as long as it is not too large.
    fn part(&self) -> usize {
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
        part: usize,
    ) -> Result<Vec<ExchangeId>, StoreError> {
        if self.gap.is_none()
            && let Some((exchanges, since)) = self.lost.take()
        {
            self.gap = Some(Arc::new(self.gap_batch(exchanges, since)));
        }
        let mut batches = self.pending[..part].to_vec();
        batches.extend(self.gap.clone());
        let mut appending = store.append(batches);
        let tried = self
            .trying_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        let patience = self.shared.options.patience.saturating_sub(tried);
        if let Ok(appended) = timeout(patience, &mut appending).await {
            return appended;
        }
        // Slow beyond patience has failed for the conversations. The attempt itself goes on: a store need not be asked
        // twice for what it is still doing.
        self.fail("the store gave no answer");
        loop {
            self.show_while_failing();
            if let Ok(appended) = timeout(RETRY, &mut appending).await {
                return appended;
            }
            self.take();
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

    /// While the store fails watchers are shown at once what is told, without ids, and how it stands now.
    fn show_while_failing(&mut self) {
        if !self.shared.failing.load(Ordering::Relaxed) {
            return;
        }
        let batches = self.pending[self.shown..].iter();
        self.shared.feed.publish(&batches.map(|batch| (0, batch)));
        self.shown = self.pending.len();
        self.shared.feed.stand(&self.shared.status());
    }

    /// So many batches are committed, and with them what was known to be lost.
    fn committed(&mut self, part: usize, first_ids: &[ExchangeId]) {
        let batches = self.pending[..part].iter();
        let named = first_ids.iter().copied().zip(batches);
        let shown = self.shown.min(part);
        for (first, batch) in named.clone().take(shown) {
            self.recovered(first, batch.exchanges());
        }
        let exchanges = named.clone().map(|(_, batch)| batch.exchanges()).sum();
        self.shared.feed.publish(&named.skip(shown));
        if self.store.is_some() {
            self.shared.recorded.fetch_add(exchanges, Ordering::Relaxed);
        }
        self.shared.pending.fetch_sub(exchanges, Ordering::Relaxed);
        self.gap = None;
        if self.store.is_none() {
            self.lost = None;
        }
        self.trying_since = None;
        self.shown -= shown;
        let committed: Vec<_> = self.pending.drain(..part).collect();
        for batch in committed {
            self.reuse(batch);
        }
    }

    /// Notes the ids of exchanges that watchers were shown without.
    fn recovered(&self, first: ExchangeId, exchanges: u64) {
        if first == 0 || exchanges == 0 {
            return;
        }
        let last = first + exchanges - 1;
        let mut recovered = lock(&self.shared.recovered);
        *recovered = Some((recovered.map_or(first, |(known, _)| known), last));
    }

    /// Makes a batch that is kept a spare one, unless there are enough.
    fn reuse(&mut self, batch: Arc<Batch>) {
        let max = SPARE_MAX * self.shared.shards.len();
        match Arc::try_unwrap(batch) {
            Ok(mut batch) if self.spare.len() < max => {
                batch.clear(SPARE_BYTES);
                self.spare.push(batch);
            }
            Err(watched) if self.lent.len() < max => self.lent.push(watched),
            Ok(_) | Err(_) => {}
        }
    }

    fn all_committed(&mut self) {
        if self.shared.failing.swap(false, Ordering::SeqCst) {
            *lock(&self.shared.failure) = None;
            tracing::debug!("recording again");
            self.shared.feed.stand(&self.shared.status());
        }
        self.finish_epoch();
    }

    /// Nothing is being kept for now. Conversations are told once; attempts go on.
    fn fail(&self, why: &str) {
        if !self.shared.failing.swap(true, Ordering::SeqCst) {
            *lock(&self.shared.recovered) = None;
            *lock(&self.shared.failure) = Some(Failure {
                since: wall(),
                why: why.to_owned(),
                exchanges: self.shared.status().lost,
            });
            tracing::debug!("not recording: {why}");
            self.shared.feed.stand(&self.shared.status());
        }
        self.shared.wake_all();
    }

    /// Everything taken so far has been dealt with: tells those that wait for it.
    fn finish_epoch(&mut self) {
        for shard in &self.shared.shards {
            let mut filling = lock(&shard.filling);
            filling.taken_bytes = 0;
            shard.used.store(filling.size(), Ordering::Relaxed);
            // The same number in every shard, since all are taken in one go.
            self.shared
                .committed
                .store(filling.epoch - 1, Ordering::Release);
        }
        self.shared.wake_all();
    }
}

impl Drop for RecorderTask {
    /// Closed, cut short or broken by a bug: what it holds is lost, so is what nobody takes any more, and whoever
    /// waits for it is told.
    fn drop(&mut self) {
        let exchanges =
            |batches: &[Arc<Batch>]| -> u64 { batches.iter().map(|batch| batch.exchanges()).sum() };
        let shown = exchanges(&self.pending[..self.shown.min(self.pending.len())]);
        let mut lost = exchanges(&self.pending);
        self.shared.pending.store(0, Ordering::Relaxed);
        for shard in &self.shared.shards {
            let mut filling = lock(&shard.filling);
            filling.closed = true;
            lost += mem::take(&mut filling.lost) + filling.exchanges();
            drop(filling.take(Batch::default()));
        }
        self.shared.lose(lost);
        self.shared.feed.miss(lost - shown);
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
