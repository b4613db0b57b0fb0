//! What the tests of this crate share: a store that does as it is told, and a view of what it kept.

#![allow(
    dead_code,
    reason = "each test binary takes what it needs of what all share"
)]

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use echoic_core::{
    ending::Ending,
    event::{
        Address, Batch, BatchId, ConversationId, Event, ExchangeId, Marked, Micros, Outcome,
        take_ids,
    },
    exchange::Conversation,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Found, FoundConversations, Gap, Last, Page, Retention, Stats, Store,
        StoreError, StoreErrorKind, StoreLocation,
    },
};
use tokio::{sync::Notify, time::Instant};

/// A store in memory whose speed and failures a test decides.
#[derive(Debug, Default)]
pub(crate) struct TestStore {
    state: Mutex<State>,
    changed: Notify,
    /// Exchanges that arrived, also where the batches are not kept.
    pub(crate) arrived: AtomicU64,
    /// Appends so far.
    pub(crate) rounds: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    mood: Mood,
    /// Each with the id of its first exchange.
    kept: Vec<(ExchangeId, Arc<Batch>)>,
    /// What is told again is not kept twice.
    known: HashMap<BatchId, ExchangeId>,
    /// Of exchanges.
    last: ExchangeId,
    /// Of conversations.
    reserved: ConversationId,
    /// No ids of conversations for now.
    is_miserly: bool,
    /// When each append began, and how many bytes it brought.
    appends: Vec<(Instant, usize)>,
}

/// What the store does with an append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Keeps it at once.
    #[default]
    Willing,
    /// Keeps it after so long.
    Slow(Duration),
    /// Says no.
    Refusing,
    /// Says no to what has more bytes than this, and keeps the rest.
    Narrow(usize),
    /// Keeps it, and says that it did not: as after a commit whose sync failed.
    Unsure,
    /// Gives no answer until its mood changes.
    Silent,
    /// Counts it and throws it away: for measuring.
    Forgetful,
}

/// One exchange as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: ExchangeId,
    pub(crate) conversation: ConversationId,
    pub(crate) n: u64,
    pub(crate) outcome: Outcome,
    pub(crate) reply_offset: u64,
    pub(crate) reads: u32,
    pub(crate) heard: Vec<u8>,
    pub(crate) said: Vec<u8>,
}

impl TestStore {
    pub(crate) fn new(mood: Mood) -> Arc<Self> {
        let store = Arc::new(Self::default());
        store.set(mood);
        store
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.state().mood = mood;
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When appends began, and their bytes.
    pub(crate) fn appends(&self) -> Vec<(Instant, usize)> {
        self.state().appends.clone()
    }

    fn events<T>(&self, mut pick: impl FnMut(&Batch, &Event, ExchangeId) -> Vec<T>) -> Vec<T> {
        let kept = self.state().kept.clone();
        kept.iter()
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

    /// Every exchange kept, in the order of keeping.
    pub(crate) fn exchanges(&self) -> Vec<Kept> {
        self.events(|batch, event, id| match event {
            Event::Run(run) => {
                let (mut heard, mut said) = (batch.bytes(run.request), batch.bytes(run.reply));
                let lengths = batch.lengths(run.lengths);
                let mut reply_offset = run.reply_offset;
                (0..run.count as usize)
                    .map(|i| {
                        let (h, s) = if run.count == 1 {
                            (heard.len(), said.len())
                        } else {
                            (lengths[2 * i] as usize, lengths[2 * i + 1] as usize)
                        };
                        let (this_heard, rest) = heard.split_at(h);
                        heard = rest;
                        let (this_said, rest) = said.split_at(s);
                        said = rest;
                        let kept = Kept {
                            id: id + i as u64,
                            conversation: run.conversation,
                            n: run.n + i as u64,
                            outcome: run.outcome,
                            reply_offset,
                            reads: if i == 0 { run.reads } else { 1 },
                            heard: this_heard.to_vec(),
                            said: this_said.to_vec(),
                        };
                        reply_offset += s as u64;
                        kept
                    })
                    .collect()
            }
            _ => Vec::new(),
        })
    }

    /// Who called, by conversation.
    pub(crate) fn callers(&self) -> Vec<(ConversationId, Address)> {
        self.events(|_, event, _| match event {
            Event::Opened(opened) => vec![(opened.conversation, opened.remote.clone())],
            _ => Vec::new(),
        })
    }

    /// Endings, by conversation.
    pub(crate) fn endings(&self) -> Vec<(ConversationId, Ending)> {
        self.events(|_, event, _| match event {
            Event::Ended(ended) => vec![(ended.conversation, ended.ending.clone())],
            _ => Vec::new(),
        })
    }

    /// The ending of one conversation, once it has been kept.
    pub(crate) fn ending(&self, conversation: ConversationId) -> Option<Ending> {
        let mut endings = self.endings();
        endings.retain(|(of, _)| *of == conversation);
        assert!(endings.len() <= 1, "a conversation ends once: {endings:?}");
        endings.pop().map(|(_, ending)| ending)
    }

    /// Marks, with the wall clock at which they were made.
    pub(crate) fn marks(&self) -> Vec<(ConversationId, Micros, Marked)> {
        self.events(|_, event, _| match event {
            Event::Mark(mark) => vec![(mark.conversation, mark.at, mark.what)],
            _ => Vec::new(),
        })
    }

    /// Exchanges that the record itself says are missing. One told again is the same, and may have grown.
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

    fn keep(&self, batches: Vec<Arc<Batch>>) -> Vec<ExchangeId> {
        let mut state = self.state();
        let keep = |batch: Arc<Batch>| {
            assert!(batch.number > 0, "a batch without a name");
            if let Some(first_id) = state.known.get(&batch.id()) {
                return *first_id;
            }
            let first_id = state.last + 1;
            state.last += batch.exchanges();
            state.known.insert(batch.id(), first_id);
            state.kept.push((first_id, batch));
            first_id
        };
        batches.into_iter().map(keep).collect()
    }

    /// Whether ids of conversations are refused from now on.
    pub(crate) fn set_miserly(&self, is_miserly: bool) {
        self.state().is_miserly = is_miserly;
    }

    fn failed() -> StoreError {
        let what = "told to fail".into();
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
        let reserved = if state.is_miserly {
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
        let forget = {
            let mut state = self.state();
            let forget = state.mood == Mood::Forgetful;
            if !forget {
                state.appends.push((Instant::now(), bytes));
            }
            forget
        };
        if forget {
            self.arrived.fetch_add(exchanges, Ordering::Relaxed);
            let first_ids = vec![1; batches.len()];
            return Box::pin(async { Ok(first_ids) });
        }
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                let mood = self.state().mood;
                match mood {
                    Mood::Willing | Mood::Forgetful => break,
                    Mood::Slow(pause) => {
                        tokio::time::sleep(pause).await;
                        break;
                    }
                    Mood::Narrow(most) if bytes <= most => break,
                    Mood::Refusing | Mood::Narrow(_) => return Err(Self::failed()),
                    Mood::Unsure => {
                        self.keep(batches);
                        return Err(Self::failed());
                    }
                    Mood::Silent => changed.await,
                }
            }
            self.arrived.fetch_add(exchanges, Ordering::Relaxed);
            Ok(self.keep(batches))
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
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>> {
        Box::pin(async { Ok(None) })
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
