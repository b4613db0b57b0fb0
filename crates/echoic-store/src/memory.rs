//! The record in memory, for as long as the program runs: `--store memory`.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use echoic_core::{
    event::{Batch, ConversationId, Event, ExchangeId, Marked, Micros, RunEvent},
    exchange::{Conversation, Exchange, ExchangeRef, split_run},
    filter::{Expr, Filter},
    service::BoxFuture,
    store::{Found, Last, Order, Page, Retention, Store, StoreError},
};

/// Runs taken apart between two looks at the store: appends wait for no more than picking these out.
const CHUNK: usize = 1_000;

/// A record that ends with the program. It keeps at most so many bytes, and forgets the oldest for the newest.
#[derive(Debug)]
pub struct MemoryStore {
    bytes_max: u64,
    kept: Mutex<Kept>,
}

impl MemoryStore {
    /// An empty record that will keep about `bytes_max` bytes at most.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            kept: Mutex::default(),
        }
    }

    /// Every step leaves what is kept whole, so a panic in another thread has not harmed it.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `take` with what matches, until it says that it has enough.
    fn scan(&self, filter: &Filter, page: Page, mut take: impl FnMut(Exchange) -> bool) {
        let newest_first = page.order == Order::NewestFirst;
        let mut cursor = page.beyond;
        loop {
            let chunk = self.kept().chunk(page.order, cursor);
            let Some((last, _)) = chunk.last() else {
                return;
            };
            let next = if newest_first {
                last.run.id
            } else {
                last.last()
            };
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
                        return;
                    }
                }
            }
            cursor = Some(next);
        }
    }
}

impl Store for MemoryStore {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        Box::pin(async { Ok(self.kept().last) })
    }

    fn append(&self, batches: Vec<Arc<Batch>>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            crate::in_order(Path::new("memory"), &batches)?;
            let mut kept = self.kept();
            let before = kept.last.exchange;
            let events = batches
                .iter()
                .flat_map(|batch| batch.events.iter().map(move |event| (event, batch)));
            for (event, batch) in events {
                kept.keep(event, batch, before);
            }
            while kept.exceeds(self.bytes_max) && kept.forget_oldest() > 0 {}
            Ok(())
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
            });
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
                return Ok(self.kept().exchanges);
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
            });
            Ok(total)
        })
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>> {
        Box::pin(async move {
            Ok(self
                .kept()
                .conversations
                .get(&id)
                .map(|conversation| (**conversation).clone()))
        })
    }

    fn prune(&self, keep: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut kept = self.kept();
            let old = keep.age.map_or(Micros::MIN, |age| now.saturating_sub(age));
            let bytes_max = keep.bytes.unwrap_or(u64::MAX);
            let mut forgotten = 0;
            for _ in 0..CHUNK {
                let is_old = kept.runs.front().is_some_and(|stored| stored.run.at < old);
                if !is_old && !kept.exceeds(bytes_max) {
                    break;
                }
                forgotten += kept.forget_oldest();
            }
            kept.forget_conversations(old, bytes_max);
            Ok(forgotten)
        })
    }
}

/// What is kept, in the order of ids.
#[derive(Debug, Default)]
struct Kept {
    runs: VecDeque<Arc<Stored>>,
    conversations: BTreeMap<ConversationId, Arc<Conversation>>,
    /// Conversations that have ended, each with the last exchange id of that moment: when that is forgotten, so
    /// are all their runs.
    ended: VecDeque<(ExchangeId, ConversationId)>,
    bytes: u64,
    exchanges: u64,
    last: Last,
}

/// A run with its bytes.
#[derive(Debug)]
struct Stored {
    run: RunEvent,
    heard: Box<[u8]>,
    said: Box<[u8]>,
    lengths: Box<[u32]>,
}

impl Stored {
    fn last(&self) -> ExchangeId {
        self.run.id + u64::from(self.run.count) - 1
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
    /// Keeps one event; runs up to the id `before` are kept already.
    fn keep(&mut self, event: &Event, batch: &Batch, before: ExchangeId) {
        match event {
            Event::Opened(opened) => {
                let id = opened.conversation;
                self.last.conversation = self.last.conversation.max(id);
                let conversation = Conversation {
                    id,
                    opened: opened.at,
                    remote: opened.remote.clone(),
                    local: opened.local.clone(),
                    post: Arc::clone(&opened.post),
                    half_closed: None,
                    ended: None,
                };
                if self
                    .conversations
                    .insert(id, Arc::new(conversation))
                    .is_none()
                {
                    self.bytes += CONVERSATION_BYTES;
                }
            }
            Event::Run(run) if run.id <= before => {}
            Event::Run(run) => {
                let stored = Stored {
                    run: run.clone(),
                    heard: batch.bytes(run.heard).into(),
                    said: batch.bytes(run.said).into(),
                    lengths: batch.lengths(run.lengths).into(),
                };
                self.bytes += stored.bytes();
                self.exchanges += u64::from(run.count);
                self.last.exchange = stored.last();
                self.runs.push_back(Arc::new(stored));
            }
            Event::Mark(mark) => {
                if let (Marked::HalfClosed { .. }, Some(conversation)) =
                    (mark.what, self.conversations.get_mut(&mark.conversation))
                {
                    Arc::make_mut(conversation).half_closed = Some(mark.at);
                }
            }
            Event::Ended(ended) => {
                if let Some(conversation) = self.conversations.get_mut(&ended.conversation) {
                    Arc::make_mut(conversation).ended = Some((ended.at, ended.ending.clone()));
                    self.ended
                        .push_back((self.last.exchange, ended.conversation));
                }
            }
        }
    }

    /// Some runs from `beyond` on, with their conversations.
    fn chunk(
        &self,
        order: Order,
        beyond: Option<ExchangeId>,
    ) -> Vec<(Arc<Stored>, Arc<Conversation>)> {
        let with_conversation = |stored: &Arc<Stored>| {
            let id = stored.run.conversation;
            let conversation = self.conversations.get(&id).map(Arc::clone);
            let conversation = conversation.unwrap_or_else(|| Arc::new(crate::unknown(id)));
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
                    .partition_point(|s| beyond.is_none_or(|b| s.run.id < b));
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
            .map_or(self.last.exchange + 1, |stored| stored.run.id);
        while let Some(&(last_run, id)) = self.ended.front() {
            let ended = self
                .conversations
                .get(&id)
                .and_then(|found| found.ended.as_ref());
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
