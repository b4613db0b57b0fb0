//! Shared test helpers: a store whose speed and failures a test sets, and access to the events it stored.

#![allow(
    dead_code,
    reason = "each test binary uses a part of the shared helpers"
)]

use std::{
    collections::HashMap,
    ops::{Range, RangeInclusive},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use echoic_core::{
    ending::Ending,
    event::{
        Address, Batch, BatchId, ConversationId, Event, ExchangeId, Mark, Marked, Micros, Opened,
        Outcome, take_ids,
    },
    exchange::Exchange,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Found, FoundConversations, Gap, LabelChange, Last, ListedConversation,
        Page, Retention, Series, Stats, Store, StoreError, StoreErrorKind, StoreLocation, TagCount,
    },
};
use tokio::{sync::Notify, time::Instant};

/// A store in memory whose speed and failures a test sets.
#[derive(Debug, Default)]
pub(crate) struct TestStore {
    state: Mutex<State>,
    changed: Notify,
    /// Count of appended exchanges, also of those discarded.
    pub(crate) arrived: AtomicU64,
    /// Number of appends.
    pub(crate) rounds: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    mode: StoreMode,
    /// Stored batches, each with the id of its first exchange.
    stored: Vec<(ExchangeId, Arc<Batch>)>,
    /// First id of each stored batch: a repeated batch is not stored twice.
    known: HashMap<BatchId, ExchangeId>,
    /// Last id of an exchange.
    last: ExchangeId,
    /// Last reserved id of a conversation.
    reserved: ConversationId,
    /// Whether reserving ids of conversations fails.
    fails_to_reserve: bool,
    /// Start and bytes of each append.
    appends: Vec<(Instant, usize)>,
}

/// Behavior of the store on append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StoreMode {
    /// Commits at once.
    #[default]
    Commits,
    /// Commits after this delay.
    Slow(Duration),
    /// Returns an error.
    Fails,
    /// Fails if the append has more bytes than this, and else commits.
    FailsAbove(usize),
    /// Commits and returns an error, as after a commit whose sync failed.
    CommitsAndFails,
    /// Does not return until the mode changes.
    Hangs,
    /// Counts the exchanges and discards them, for measurements.
    Discards,
}

/// A stored exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: ExchangeId,
    pub(crate) conversation: ConversationId,
    pub(crate) n: u64,
    pub(crate) outcome: Outcome,
    pub(crate) reply_offset: u64,
    pub(crate) reads: u32,
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

impl TestStore {
    pub(crate) fn new(mode: StoreMode) -> Arc<Self> {
        let store = Arc::new(Self::default());
        store.set(mode);
        store
    }

    pub(crate) fn set(&self, mode: StoreMode) {
        self.state().mode = mode;
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the start and the bytes of each append.
    pub(crate) fn appends(&self) -> Vec<(Instant, usize)> {
        self.state().appends.clone()
    }

    fn events<T>(&self, mut pick: impl FnMut(&Batch, &Event, ExchangeId) -> Vec<T>) -> Vec<T> {
        let stored = self.state().stored.clone();
        stored
            .iter()
            .flat_map(|(first_id, batch)| {
                let mut next = *first_id;
                let each = batch.events.iter().flat_map(|event| {
                    let id = match event {
                        Event::Run(run) => take_ids(&mut next, run),
                        _ => 0,
                    };
                    pick(batch, event, id)
                });
                each.collect::<Vec<_>>()
            })
            .collect()
    }

    /// Returns all stored exchanges in commit order.
    pub(crate) fn exchanges(&self) -> Vec<Stored> {
        self.events(|batch, event, id| match event {
            Event::Run(run) => {
                let (mut requests, mut replies) =
                    (batch.bytes(run.request), batch.bytes(run.reply));
                let lengths = batch.lengths(run.lengths);
                let mut reply_offset = run.reply_offset;
                (0..run.count as usize)
                    .map(|i| {
                        let (request_len, reply_len) = if run.count == 1 {
                            (requests.len(), replies.len())
                        } else {
                            (lengths[2 * i] as usize, lengths[2 * i + 1] as usize)
                        };
                        let (request, rest) = requests.split_at(request_len);
                        requests = rest;
                        let (reply, rest) = replies.split_at(reply_len);
                        replies = rest;
                        let exchange = Stored {
                            id: id + i as u64,
                            conversation: run.conversation,
                            n: run.n + i as u64,
                            outcome: run.outcome,
                            reply_offset,
                            reads: if i == 0 { run.reads } else { 1 },
                            request: request.to_vec(),
                            reply: reply.to_vec(),
                        };
                        reply_offset += reply_len as u64;
                        exchange
                    })
                    .collect()
            }
            _ => Vec::new(),
        })
    }

    /// Returns the peer address of each conversation.
    pub(crate) fn callers(&self) -> Vec<(ConversationId, Address)> {
        self.events(|_, event, _| match event {
            Event::Opened(opened) => vec![(opened.conversation, opened.remote.clone())],
            _ => Vec::new(),
        })
    }

    /// Returns the opening of each conversation.
    pub(crate) fn opened(&self) -> Vec<Opened> {
        self.events(|_, event, _| match event {
            Event::Opened(opened) => vec![opened.clone()],
            _ => Vec::new(),
        })
    }

    /// Returns the ending of each conversation.
    pub(crate) fn endings(&self) -> Vec<(ConversationId, Ending)> {
        self.events(|_, event, _| match event {
            Event::Ended(ended) => vec![(ended.conversation, ended.ending.clone())],
            _ => Vec::new(),
        })
    }

    /// Returns the ending of a conversation, if it is stored.
    pub(crate) fn ending(&self, conversation: ConversationId) -> Option<Ending> {
        let mut endings = self.endings();
        endings.retain(|(of, _)| *of == conversation);
        assert!(endings.len() <= 1, "a conversation ends once: {endings:?}");
        endings.pop().map(|(_, ending)| ending)
    }

    /// Returns all marks with their wall-clock times.
    pub(crate) fn marks(&self) -> Vec<(ConversationId, Micros, Marked)> {
        self.events(|_, event, _| match event {
            Event::Mark(mark) => vec![(mark.conversation, mark.at, mark.what)],
            _ => Vec::new(),
        })
    }

    /// Returns the number of exchanges in recorded gaps. Gaps with the same time are one gap, counted at its largest.
    pub(crate) fn gaps(&self) -> u64 {
        let mut gaps: HashMap<Micros, u64> = HashMap::new();
        for (_, at, what) in self.marks() {
            if let Marked::Gap { exchanges, .. } = what {
                let gap = gaps.entry(at).or_default();
                *gap = exchanges.max(*gap);
            }
        }
        gaps.values().sum()
    }

    fn store(&self, batches: Vec<Arc<Batch>>) -> Vec<ExchangeId> {
        let mut state = self.state();
        let store = |batch: Arc<Batch>| {
            assert!(batch.number > 0, "a batch without a number");
            if let Some(first_id) = state.known.get(&batch.id()) {
                return *first_id;
            }
            let first_id = state.last + 1;
            state.last += batch.exchanges();
            state.known.insert(batch.id(), first_id);
            state.stored.push((first_id, batch));
            first_id
        };
        batches.into_iter().map(store).collect()
    }

    /// Sets whether reserving ids of conversations fails.
    pub(crate) fn set_fails_to_reserve(&self, fails_to_reserve: bool) {
        self.state().fails_to_reserve = fails_to_reserve;
    }

    fn failed() -> StoreError {
        let what = "set to fail".into();
        StoreError::new(StoreLocation::Memory, StoreErrorKind::Failed { what })
    }
}

impl Store for TestStore {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        Box::pin(async { Ok(Last::default()) })
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        let mut state = self.state();
        let first = state.reserved + 1;
        let reserved = if state.fails_to_reserve {
            Err(Self::failed())
        } else {
            state.reserved += count;
            Ok(first)
        };
        Box::pin(async { reserved })
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        let bytes: usize = batches.iter().map(|batch| batch.size()).sum();
        let exchanges = batches.iter().map(|batch| batch.exchanges()).sum();
        let discards = {
            let mut state = self.state();
            let discards = state.mode == StoreMode::Discards;
            if !discards {
                state.appends.push((Instant::now(), bytes));
            }
            discards
        };
        if discards {
            self.arrived.fetch_add(exchanges, Ordering::Relaxed);
            let first_ids = vec![1; batches.len()];
            return Box::pin(async { Ok(first_ids) });
        }
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                let mode = self.state().mode;
                match mode {
                    StoreMode::Commits | StoreMode::Discards => break,
                    StoreMode::Slow(delay) => {
                        tokio::time::sleep(delay).await;
                        break;
                    }
                    StoreMode::FailsAbove(bytes_max) if bytes <= bytes_max => break,
                    StoreMode::Fails | StoreMode::FailsAbove(_) => return Err(Self::failed()),
                    StoreMode::CommitsAndFails => {
                        self.store(batches);
                        return Err(Self::failed());
                    }
                    StoreMode::Hangs => changed.await,
                }
            }
            self.arrived.fetch_add(exchanges, Ordering::Relaxed);
            Ok(self.store(batches))
        })
    }

    fn find<'a>(&'a self, _: &'a Filter, _: Page) -> BoxFuture<'a, Result<Found, StoreError>> {
        Box::pin(async { Ok(Found::default()) })
    }

    fn count<'a>(&'a self, _: &'a Filter, _: Micros) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Ok(self.exchanges().len() as u64) })
    }

    fn conversations<'a>(
        &'a self,
        _: &'a Filter,
        _: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>> {
        Box::pin(async { Ok(FoundConversations::default()) })
    }

    fn conversation(
        &self,
        _: ConversationId,
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn messages(
        &self,
        _: ConversationId,
        _: u64,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn marks(&self, _: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn label(&self, _: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async { Ok(0) })
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn series<'a>(
        &'a self,
        _: &'a Filter,
        _: Range<Micros>,
        _: Micros,
        _: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>> {
        Box::pin(async { Ok(Series::default()) })
    }

    fn delete<'a>(
        &'a self,
        _: &'a Filter,
        _: u64,
        _: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Ok(0) })
    }

    fn gaps(
        &self,
        _: RangeInclusive<Micros>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        Box::pin(async { Ok(Stats::default()) })
    }

    fn prune(&self, _: Retention, _: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async { Ok(0) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
