//! The recorder's own work: round after round, from the shards to the store and to whoever watches.

use std::{
    fmt, mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use echoic_core::{
    event::{Batch, Event, ExchangeId, Mark, Marked, Micros},
    store::{Store, StoreError},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    clock::wall,
    filling::{ROUND_BYTES, SPARE_MAX, Shard},
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

/// The recorder's own work: run it on any runtime, until [`Recorder::close`](crate::Recorder::close) makes it return.
#[must_use = "nothing is recorded unless the task is run"]
pub struct RecorderTask {
    shared: Arc<Shared>,
    store: Option<Arc<dyn Store>>,
    next_exchange: ExchangeId,
    /// Batches taken and not kept yet, in order; more than one round only while the store fails.
    pending: Vec<Arc<Batch>>,
    /// How many of `pending` have been shown to watchers.
    shown: usize,
    spare: Vec<Batch>,
    /// Kept, and still looked at by a watcher: spare ones when it has done with them.
    lent: Vec<Arc<Batch>>,
    /// When the first attempt began to have this kept; no commit since then.
    trying_since: Option<Instant>,
    /// Exchanges lost since something was last kept, and since when.
    lost: Option<(u64, Micros)>,
}

impl RecorderTask {
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: Option<Arc<dyn Store>>,
        next_exchange: ExchangeId,
    ) -> Self {
        Self {
            shared,
            store,
            next_exchange,
            pending: Vec::new(),
            shown: 0,
            spare: Vec::new(),
            lent: Vec::new(),
            trying_since: None,
            lost: None,
        }
    }

    /// Records until the recorder is closed and all that was told is kept.
    pub async fn run(mut self) {
        loop {
            self.shared.due.notified().await;
            let closing = self.shared.closing.load(Ordering::SeqCst);
            if !closing && !self.shared.options.hold_replies {
                // At its own pace, unless there is much to do.
                let _ = timeout(self.shared.options.pace, self.much_to_do()).await;
            }
            self.take();
            while !self.pending.is_empty() || (closing && self.lost.is_some()) {
                if self.keep().await {
                    break;
                }
                sleep(RETRY).await;
                self.take();
            }
            if closing {
                return;
            }
        }
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

    /// Takes what the shards hold, ends their epoch, and numbers the exchanges.
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
                for event in &mut batch.events {
                    if let Event::Run(run) = event {
                        run.id = self.next_exchange;
                        self.next_exchange += u64::from(run.count);
                    }
                }
                if batch.is_empty() {
                    self.spare.push(batch);
                } else {
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

    /// Tries to have everything pending kept, part after part; whether it was.
    async fn keep(&mut self) -> bool {
        while !self.pending.is_empty() || self.lost.is_some() {
            let since = *self.trying_since.get_or_insert_with(Instant::now);
            let part = self.part();
            let kept = match self.store.clone() {
                Some(store) => self.append(&*store, part).await,
                None => Ok(()),
            };
            let first_unshown = self.shown.min(self.pending.len());
            self.shared.feed.publish(&self.pending[first_unshown..]);
            self.shown = self.pending.len();
            if self.shared.failing.load(Ordering::Relaxed) {
                // For those who look on and do not ask: how it stands now, each time it was tried.
                self.shared.feed.stand(&self.shared.status());
            }
            if let Err(error) = kept {
                // An error may pass by itself, a lock or a moment without room: the store has as long as a silent one.
                if since.elapsed() >= self.shared.options.patience {
                    self.fail(&error.to_string());
                }
                return false;
            }
            self.kept(part);
        }
        self.all_kept();
        true
    }

    /// How many batches go in one transaction: the first, and others as long as it is not too large.
    fn part(&self) -> usize {
        let mut bytes = 0;
        let fits = |batch: &&Arc<Batch>| {
            bytes += batch.size();
            bytes <= APPEND_BYTES
        };
        let fitting = self.pending.iter().take_while(fits).count();
        fitting.max(1).min(self.pending.len())
    }

    async fn append(&mut self, store: &dyn Store, part: usize) -> Result<(), StoreError> {
        let mut batches = self.pending[..part].to_vec();
        if let Some((exchanges, since)) = self.lost {
            let what = Marked::Gap { exchanges, since };
            let mut gap = Batch::default();
            // At the same time in every attempt: one that was made and not confirmed must not count twice.
            gap.events.push(Event::Mark(Mark {
                conversation: 0,
                at: since,
                what,
            }));
            batches.push(Arc::new(gap));
        }
        let mut appending = store.append(batches);
        let tried = self
            .trying_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        let patience = self.shared.options.patience.saturating_sub(tried);
        match timeout(patience, &mut appending).await {
            Ok(kept) => kept,
            Err(_) => {
                // Slow beyond patience has failed for the conversations; the attempt itself goes on, since to try
                // again beside it could keep everything twice.
                self.fail("the store gave no answer");
                appending.await
            }
        }
    }

    /// So many batches are kept, and with them what was known to be lost.
    fn kept(&mut self, part: usize) {
        let kept = self.pending[..part].iter();
        let exchanges = kept.map(|batch| batch.exchanges()).sum();
        if self.store.is_some() {
            self.shared.recorded.fetch_add(exchanges, Ordering::Relaxed);
        }
        self.shared.pending.fetch_sub(exchanges, Ordering::Relaxed);
        self.lost = None;
        self.trying_since = None;
        self.shown -= part;
        let kept: Vec<_> = self.pending.drain(..part).collect();
        for batch in kept {
            self.reuse(batch);
        }
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

    fn all_kept(&mut self) {
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
