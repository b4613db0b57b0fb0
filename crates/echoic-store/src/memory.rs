//! A store in memory, which lives as long as the process: `--store memory`.

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

/// Runs copied out per lock of the store: appends wait only for this, not for a whole search.
const CHUNK: usize = 1_000;

/// Maximum of separate gaps; older ones are merged into the oldest.
const GAPS_MAX: usize = 10_000;

/// A store in memory with a bound in bytes. It removes the oldest exchanges to make room for new ones.
#[derive(Debug)]
pub struct MemoryStore {
    bytes_max: u64,
    /// `None` once the store is closed.
    data: Mutex<Option<Data>>,
}

impl MemoryStore {
    /// Creates an empty store that holds at most about `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            data: Mutex::new(Some(Data::default())),
        }
    }

    /// Runs `work` on the data, unless the store is closed. The data is consistent between statements, so a poisoned lock
    /// is ignored.
    fn with<T>(&self, work: impl FnOnce(&mut Data) -> T) -> Result<T, StoreError> {
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let done = data.as_mut().map(work);
        done.ok_or_else(|| StoreError::new(StoreLocation::Memory, StoreErrorKind::Closed))
    }

    /// Calls `take` with each matching exchange until it returns true.
    fn scan(
        &self,
        filter: &Filter,
        page: Page,
        mut take: impl FnMut(Exchange) -> bool,
    ) -> Result<(), StoreError> {
        let newest_first = page.order == Order::NewestFirst;
        let mut cursor = page.beyond;
        loop {
            let chunk = self.with(|data| data.chunk(page.order, cursor))?;
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
        Box::pin(async { self.with(|data| data.last) })
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        Box::pin(async move {
            self.with(|data| {
                let first = data.reserved.max(data.last.conversation) + 1;
                data.reserved = first - 1 + count;
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
            self.with(|data| {
                let first_ids = batches.iter().map(|batch| data.batch(batch)).collect();
                let bytes_max = data.retained_bytes.unwrap_or(u64::MAX).min(self.bytes_max);
                while data.exceeds(bytes_max) && data.remove_oldest() > 0 {}
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
            // One more than the limit shows that there is another page.
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
                return self.with(|data| data.exchanges);
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
            self.with(|data| data.list(&condition, page))
        })
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>> {
        Box::pin(async move {
            self.with(|data| {
                let known = data.conversations.get(&id);
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
            self.with(|data| {
                let within = data.gaps.values().filter(|gap| times.contains(&gap.since));
                let mut gaps: Vec<Gap> = within.copied().collect();
                gaps.sort_by_key(|gap| Reverse(gap.since));
                gaps.truncate(limit);
                gaps
            })
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        Box::pin(async { self.with(|data| data.stats()) })
    }

    fn prune(&self, retention: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        let old = retention
            .age
            .map_or(Micros::MIN, |age| now.saturating_sub(age));
        let bytes_max = retention.bytes.unwrap_or(u64::MAX);
        Box::pin(async move {
            self.with(|data| {
                data.retained_bytes = retention.bytes;
                data.prune(old, bytes_max)
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            *self.data.lock().unwrap_or_else(PoisonError::into_inner) = None;
            Ok(())
        })
    }
}

/// The stored events, in the order of ids.
#[derive(Debug, Default)]
struct Data {
    runs: VecDeque<Arc<Stored>>,
    conversations: BTreeMap<ConversationId, Known>,
    /// Gaps by the time of their marks.
    gaps: BTreeMap<Micros, Gap>,
    /// Ended conversations, each with the last exchange id at that moment. Once that exchange is removed, so are all runs
    /// of the conversation.
    ended: VecDeque<(ExchangeId, ConversationId)>,
    bytes: u64,
    /// The size of the last [`Retention`]: appends do not exceed it.
    retained_bytes: Option<u64>,
    exchanges: u64,
    last: Last,
    /// Last reserved id of a conversation.
    reserved: ConversationId,
    batches: KnownBatches,
}

/// A conversation, and the number of its stored exchanges.
#[derive(Debug)]
struct Known {
    conversation: Arc<Conversation>,
    exchanges: u64,
}

/// A run with its bytes.
#[derive(Debug)]
struct Stored {
    /// Id of its first exchange.
    id: ExchangeId,
    run: RunEvent,
    request: Box<[u8]>,
    reply: Box<[u8]>,
    lengths: Box<[u32]>,
}

impl Stored {
    fn last(&self) -> ExchangeId {
        self.id + u64::from(self.run.count) - 1
    }

    fn bytes(&self) -> u64 {
        let bytes = self.request.len() + self.reply.len() + size_of_val(&*self.lengths);
        (bytes + size_of::<Self>()) as u64
    }

    fn exchanges<'a>(
        &'a self,
        conversation: &'a Arc<Conversation>,
    ) -> impl Iterator<Item = Exchange> {
        split_run(
            &self.run,
            self.id,
            &self.request,
            &self.reply,
            &self.lengths,
            conversation,
        )
        .map(ExchangeRef::into_owned)
    }
}

/// Approximate size of a conversation in bytes.
const CONVERSATION_BYTES: u64 = 2 * size_of::<Conversation>() as u64;

impl Data {
    /// Stores a batch unless it is stored already. Returns the id of its first exchange.
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
                // A repeated opening must not replace the later state of the conversation.
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
                    request: batch.bytes(run.request).into(),
                    reply: batch.bytes(run.reply).into(),
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
        // A repeated gap may have grown.
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
            let is_without_exchanges = known.exchanges == 0 && known.conversation.ended.is_some();
            (is_without_exchanges || !page.without_exchanges)
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

    /// Removes up to [`CHUNK`] runs that are older than `old` or exceed `bytes_max`. Returns the number of exchanges removed.
    fn prune(&mut self, old: Micros, bytes_max: u64) -> u64 {
        let mut removed = 0;
        for _ in 0..CHUNK {
            let is_old = self.runs.front().is_some_and(|stored| stored.run.at < old);
            if !is_old && !self.exceeds(bytes_max) {
                break;
            }
            removed += self.remove_oldest();
        }
        self.remove_conversations(old, bytes_max);
        self.gaps.retain(|at, _| *at >= old);
        removed
    }

    /// Returns up to [`CHUNK`] runs from `beyond` on, with their conversations.
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

    /// Removes the oldest run. Returns the number of exchanges removed.
    fn remove_oldest(&mut self) -> u64 {
        let Some(stored) = self.runs.pop_front() else {
            return 0;
        };
        let count = u64::from(stored.run.count);
        self.bytes -= stored.bytes();
        self.exchanges -= count;
        count
    }

    /// Whether the store exceeds `bytes_max` even after conversations without runs are removed.
    fn exceeds(&mut self, bytes_max: u64) -> bool {
        if self.bytes > bytes_max {
            self.remove_conversations(Micros::MIN, bytes_max);
        }
        self.bytes > bytes_max
    }

    /// Removes conversations without runs that ended before `old`, and others while the store exceeds `bytes_max`.
    fn remove_conversations(&mut self, old: Micros, bytes_max: u64) {
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
