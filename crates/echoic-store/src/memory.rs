//! The record in memory, for as long as the program runs: `--store memory`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    iter,
    ops::{Bound, RangeInclusive},
    sync::{Arc, Mutex, PoisonError},
};

use echoic_core::{
    event::{Batch, ConversationId, Event, ExchangeId, Marked, Micros, RunEvent, take_ids},
    exchange::{Conversation, Exchange, ExchangeRef, split_run},
    filter::{Expr, Filter},
    service::BoxFuture,
    store::{
        ConversationPage, Found, FoundConversations, Gap, Last, ListedConversation, Order, Page,
        Retention, Stats, Store, StoreError, StoreErrorKind, StoreLocation,
    },
};

use crate::batches::KnownBatches;

/// Runs taken apart between two looks at the store: appends wait for no more than picking these out.
const CHUNK: usize = 1_000;

/// Gaps that are kept one by one; of older ones the sum is.
const GAPS_MAX: usize = 10_000;

/// A record that ends with the program. It keeps at most so many bytes, and forgets the oldest for the newest.
#[derive(Debug)]
pub struct MemoryStore {
    bytes_max: u64,
    /// None once it was closed.
    kept: Mutex<Option<Kept>>,
}

impl MemoryStore {
    /// An empty record that will keep about `bytes_max` bytes at most.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            kept: Mutex::new(Some(Kept::default())),
        }
    }

    /// Does `work` with what is kept, if it is not closed. Every step leaves it whole, so a panic in another thread has
    /// not harmed it.
    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> Result<T, StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.as_mut().map(work);
        kept.ok_or_else(|| StoreError::new(StoreLocation::Memory, StoreErrorKind::Closed))
    }

    /// Calls `take` with what matches, until it says that it has enough.
    fn scan(
        &self,
        filter: &Filter,
        page: Page,
        mut take: impl FnMut(Exchange) -> bool,
    ) -> Result<(), StoreError> {
        let newest_first = page.order == Order::NewestFirst;
        let mut cursor = page.beyond;
        loop {
            let chunk = self.with(|kept| kept.chunk(page.order, cursor))?;
            let Some((last, _)) = chunk.last() else {
                return Ok(());
            };
            let next = if newest_first { last.id } else { last.last() };
            for (stored, conversation) in &chunk {
                let mut exchanges: Vec<_> = stored.exchanges(conversation).collect();
                if newest_first {
                    exchanges.reverse();
                }
                for exchange in exchanges {
                    let is_beyond = page.beyond.is_none_or(|beyond| match page.order {
                        Order::OldestFirst => exchange.id > beyond,
                        Order::NewestFirst => exchange.id < beyond,
                    });
                    if is_beyond && filter.matches(&exchange, page.now) && take(exchange) {
                        return Ok(());
                    }
                }
            }
            cursor = Some(next);
        }
    }
}

impl Store for MemoryStore {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        Box::pin(async { self.with(|kept| kept.last) })
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        Box::pin(async move {
            self.with(|kept| {
                let first = kept.reserved.max(kept.last.conversation) + 1;
                kept.reserved = first - 1 + count;
                first
            })
        })
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        Box::pin(async move {
            crate::check(&batches).map_err(|kind| StoreError::new(StoreLocation::Memory, kind))?;
            self.with(|kept| {
                let first_ids = batches.iter().map(|batch| kept.batch(batch)).collect();
                while kept.exceeds(self.bytes_max) && kept.forget_oldest() > 0 {}
                first_ids
            })
        })
    }

    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>> {
        Box::pin(async move {
            let mut found = Found::default();
            // One more than asked for tells whether there is more.
            self.scan(filter, page, |exchange| {
                if found.exchanges.len() == page.limit {
                    found.next = Some(found.exchanges.last().map_or(0, |last| last.id));
                    return true;
                }
                found.exchanges.push(exchange);
                false
            })?;
            Ok(found)
        })
    }

    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            if filter.expr() == &Expr::All {
                return self.with(|kept| kept.exchanges);
            }
            let page = Page {
                order: Order::OldestFirst,
                beyond: None,
                limit: usize::MAX,
                now,
            };
            let mut total = 0;
            self.scan(filter, page, |_| {
                total += 1;
                false
            })?;
            Ok(total)
        })
    }

    fn conversations<'a>(
        &'a self,
        filter: &'a Filter,
        page: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>> {
        Box::pin(async move {
            let condition = filter.conversation_part();
            self.with(|kept| kept.list(&condition, page))
        })
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>> {
        Box::pin(async move {
            self.with(|kept| {
                let known = kept.conversations.get(&id);
                known.map(|known| (*known.conversation).clone())
            })
        })
    }

    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        Box::pin(async move {
            self.with(|kept| {
                let within = kept.gaps.values().filter(|gap| times.contains(&gap.since));
                let mut gaps: Vec<Gap> = within.copied().collect();
                gaps.sort_by_key(|gap| Reverse(gap.since));
                gaps.truncate(limit);
                gaps
            })
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        Box::pin(async { self.with(|kept| kept.stats()) })
    }

    fn prune(&self, keep: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        let old = keep.age.map_or(Micros::MIN, |age| now.saturating_sub(age));
        let bytes_max = keep.bytes.unwrap_or(u64::MAX);
        Box::pin(async move { self.with(|kept| kept.prune(old, bytes_max)) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
            Ok(())
        })
    }
}

/// What is kept, in the order of ids.
#[derive(Debug, Default)]
struct Kept {
    runs: VecDeque<Arc<Stored>>,
    conversations: BTreeMap<ConversationId, Known>,
    /// By the time of their mark.
    gaps: BTreeMap<Micros, Gap>,
    /// Conversations that have ended, each with the last exchange id of that moment: when that is forgotten, so
    /// are all their runs.
    ended: VecDeque<(ExchangeId, ConversationId)>,
    bytes: u64,
    exchanges: u64,
    last: Last,
    /// The last id of a conversation that was reserved.
    reserved: ConversationId,
    batches: KnownBatches,
}

/// A conversation, and how many exchanges were recorded of it.
#[derive(Debug)]
struct Known {
    conversation: Arc<Conversation>,
    exchanges: u64,
}

/// A run with its bytes.
#[derive(Debug)]
struct Stored {
    /// Of its first exchange.
    id: ExchangeId,
    run: RunEvent,
    heard: Box<[u8]>,
    said: Box<[u8]>,
    lengths: Box<[u32]>,
}

impl Stored {
    fn last(&self) -> ExchangeId {
        self.id + u64::from(self.run.count) - 1
    }

    fn bytes(&self) -> u64 {
        let bytes = self.heard.len() + self.said.len() + size_of_val(&*self.lengths);
        (bytes + size_of::<Self>()) as u64
    }

    fn exchanges<'a>(
        &'a self,
        conversation: &'a Arc<Conversation>,
    ) -> impl Iterator<Item = Exchange> {
        split_run(
            &self.run,
            self.id,
            &self.heard,
            &self.said,
            &self.lengths,
            conversation,
        )
        .map(ExchangeRef::into_owned)
    }
}

/// About what a conversation takes.
const CONVERSATION_BYTES: u64 = 2 * size_of::<Conversation>() as u64;

impl Kept {
    /// Stores a batch unless it is known; returns the id of its first exchange.
    fn batch(&mut self, batch: &Batch) -> ExchangeId {
        if let Some(first_id) = self.batches.get(batch.id()) {
            return first_id;
        }
        let first_id = self.last.exchange + 1;
        let mut next = first_id;
        for event in &batch.events {
            self.event(event, batch, &mut next);
        }
        self.batches.add(batch.id(), first_id);
        first_id
    }

    /// Stores one event; `next` is the id of the next exchange.
    fn event(&mut self, event: &Event, batch: &Batch, next: &mut ExchangeId) {
        match event {
            Event::Opened(opened) => {
                let id = opened.conversation;
                self.last.conversation = self.last.conversation.max(id);
                let conversation = Conversation::new(opened.clone(), Arc::clone(&batch.server));
                // Told again, it is known with what has come to it since.
                if let Entry::Vacant(vacant) = self.conversations.entry(id) {
                    vacant.insert(Known {
                        conversation: Arc::new(conversation),
                        exchanges: 0,
                    });
                    self.bytes += CONVERSATION_BYTES;
                }
            }
            Event::Run(run) => {
                self.last.conversation = self.last.conversation.max(run.conversation);
                let stored = Stored {
                    id: take_ids(next, run),
                    run: run.clone(),
                    heard: batch.bytes(run.request).into(),
                    said: batch.bytes(run.reply).into(),
                    lengths: batch.lengths(run.lengths).into(),
                };
                self.bytes += stored.bytes();
                self.exchanges += u64::from(run.count);
                if let Some(known) = self.conversations.get_mut(&run.conversation) {
                    known.exchanges += u64::from(run.count);
                }
                self.last.exchange = stored.last();
                self.runs.push_back(Arc::new(stored));
            }
            Event::Mark(mark) => match mark.what {
                Marked::HalfClosed { .. } => {
                    if let Some(known) = self.conversations.get_mut(&mark.conversation) {
                        Arc::make_mut(&mut known.conversation).half_closed = Some(mark.at);
                    }
                }
                Marked::Gap { exchanges, since } => self.set_gap(mark.at, since, exchanges),
                Marked::Dropped { .. } | Marked::Silenced { .. } => {}
            },
            Event::Ended(ended) => {
                if let Some(known) = self.conversations.get_mut(&ended.conversation)
                    && known.conversation.ended.is_none()
                {
                    let end = (ended.at, ended.ending.clone());
                    Arc::make_mut(&mut known.conversation).ended = Some(end);
                    self.ended
                        .push_back((self.last.exchange, ended.conversation));
                }
            }
        }
    }

    fn set_gap(&mut self, at: Micros, since: Micros, exchanges: u64) {
        let new = Gap {
            since,
            exchanges: 0,
        };
        let gap = self.gaps.entry(at).or_insert(new);
        // A gap that is told again may have grown.
        gap.exchanges = gap.exchanges.max(exchanges);
        if self.gaps.len() > GAPS_MAX
            && let Some((_, oldest)) = self.gaps.pop_first()
            && let Some(mut next) = self.gaps.first_entry()
        {
            next.get_mut().exchanges += oldest.exchanges;
        }
    }

    fn list(&self, condition: &Expr, page: ConversationPage) -> FoundConversations {
        let from = match (page.order, page.beyond) {
            (Order::OldestFirst, Some(id)) => (Bound::Excluded(id), Bound::Unbounded),
            (Order::NewestFirst, Some(id)) => (Bound::Unbounded, Bound::Excluded(id)),
            (_, None) => (Bound::Unbounded, Bound::Unbounded),
        };
        let mut ids = self.conversations.range(from);
        let in_order = iter::from_fn(|| match page.order {
            Order::OldestFirst => ids.next(),
            Order::NewestFirst => ids.next_back(),
        });
        let mut matching = in_order.map(|(_, known)| known).filter(|known| {
            let is_silent = known.exchanges == 0 && known.conversation.ended.is_some();
            (is_silent || !page.without_exchanges)
                && condition.matches(&*known.conversation, page.now)
        });
        let mut found = FoundConversations::default();
        for known in matching.by_ref().take(page.limit) {
            found.conversations.push(ListedConversation {
                conversation: (*known.conversation).clone(),
                exchanges: known.exchanges,
            });
        }
        let last = found.conversations.last();
        found.next = last
            .map(|listed| listed.conversation.id)
            .filter(|_| matching.next().is_some());
        found
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.exchanges = self.exchanges;
        stats.conversations = self.conversations.len() as u64;
        stats.bytes = self.bytes;
        stats.oldest = self.runs.front().map(|stored| stored.run.at);
        stats.newest = self.runs.back().map(|stored| stored.run.at);
        stats
    }

    /// Forgets some of what is older than `old` or too much; says how many exchanges that were.
    fn prune(&mut self, old: Micros, bytes_max: u64) -> u64 {
        let mut forgotten = 0;
        for _ in 0..CHUNK {
            let is_old = self.runs.front().is_some_and(|stored| stored.run.at < old);
            if !is_old && !self.exceeds(bytes_max) {
                break;
            }
            forgotten += self.forget_oldest();
        }
        self.forget_conversations(old, bytes_max);
        self.gaps.retain(|at, _| *at >= old);
        forgotten
    }

    /// Some runs from `beyond` on, with their conversations.
    fn chunk(
        &self,
        order: Order,
        beyond: Option<ExchangeId>,
    ) -> Vec<(Arc<Stored>, Arc<Conversation>)> {
        let with_conversation = |stored: &Arc<Stored>| {
            let id = stored.run.conversation;
            let known = self.conversations.get(&id);
            let conversation = known.map_or_else(
                || Arc::new(crate::unknown(id)),
                |known| Arc::clone(&known.conversation),
            );
            (Arc::clone(stored), conversation)
        };
        match (order, beyond) {
            (Order::OldestFirst, beyond) => {
                let from = self
                    .runs
                    .partition_point(|s| beyond.is_some_and(|b| s.last() <= b));
                self.runs
                    .range(from..)
                    .take(CHUNK)
                    .map(with_conversation)
                    .collect()
            }
            (Order::NewestFirst, beyond) => {
                let to = self
                    .runs
                    .partition_point(|s| beyond.is_none_or(|b| s.id < b));
                self.runs
                    .range(..to)
                    .rev()
                    .take(CHUNK)
                    .map(with_conversation)
                    .collect()
            }
        }
    }

    /// Forgets the oldest run; says how many exchanges that were.
    fn forget_oldest(&mut self) -> u64 {
        let Some(stored) = self.runs.pop_front() else {
            return 0;
        };
        let count = u64::from(stored.run.count);
        self.bytes -= stored.bytes();
        self.exchanges -= count;
        count
    }

    /// Whether there is more than `bytes_max`, also when conversations that have nothing left to say are forgotten.
    fn exceeds(&mut self, bytes_max: u64) -> bool {
        if self.bytes > bytes_max {
            self.forget_conversations(Micros::MIN, bytes_max);
        }
        self.bytes > bytes_max
    }

    /// Forgets conversations of which no run is left, if they ended before `old` or as long as there is too much.
    fn forget_conversations(&mut self, old: Micros, bytes_max: u64) {
        let first = self
            .runs
            .front()
            .map_or(self.last.exchange + 1, |stored| stored.id);
        while let Some(&(last_run, id)) = self.ended.front() {
            let ended = self
                .conversations
                .get(&id)
                .and_then(|known| known.conversation.ended.as_ref());
            let is_old = ended.is_none_or(|(at, _)| *at < old);
            if last_run >= first || !(is_old || self.bytes > bytes_max) {
                return;
            }
            self.ended.pop_front();
            if self.conversations.remove(&id).is_some() {
                self.bytes -= CONVERSATION_BYTES;
            }
        }
    }
}
