//! A store in memory, which lives as long as the process: `--store memory`.

mod data;

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    ops::{Range, RangeInclusive},
    sync::{Arc, Mutex, PoisonError},
};

use echoic_core::{
    event::{Batch, ConversationId, ExchangeId, Mark, Micros},
    exchange::Exchange,
    filter::{Expr, Filter, Matcher},
    service::BoxFuture,
    store::{
        ConversationPage, Found, FoundConversations, Gap, LabelChange, Last, ListedConversation,
        Order, Page, Retention, Series, SeriesBuilder, Stats, Store, StoreError, StoreErrorKind,
        StoreLocation, TagCount,
    },
};

use self::data::{Data, Known};

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
        take: impl FnMut(Exchange) -> bool,
    ) -> Result<(), StoreError> {
        if !filter.steps().is_empty() {
            return self.scan_sequence(filter, page, take);
        }
        let is_match = |exchange: &Exchange| filter.matches(exchange, page.now);
        self.scan_where(page, is_match, take)
    }

    /// Calls `take` with each match of a sequence until it returns true. The steps before it may be anywhere before the page, so
    /// the whole record is read, from the oldest.
    fn scan_sequence(
        &self,
        filter: &Filter,
        page: Page,
        mut take: impl FnMut(Exchange) -> bool,
    ) -> Result<(), StoreError> {
        let mut matcher = Matcher::new(filter.clone());
        let all = Page {
            order: Order::OldestFirst,
            beyond: None,
            until: None,
            ..page
        };
        let mut ids = BTreeSet::new();
        let is_match = |exchange: &Exchange| matcher.matches(exchange, page.now);
        self.scan_where(all, is_match, |exchange| !ids.insert(exchange.id))?;
        self.scan_where(page, |exchange| ids.contains(&exchange.id), &mut take)
    }

    /// Calls `take` with each exchange of the page for which `is_match` is true, until it returns true.
    fn scan_where(
        &self,
        page: Page,
        mut is_match: impl FnMut(&Exchange) -> bool,
        mut take: impl FnMut(Exchange) -> bool,
    ) -> Result<(), StoreError> {
        let newest_first = page.order == Order::NewestFirst;
        let mut cursor = page.beyond;
        loop {
            let chunk = self.with(|data| data.chunk(page.order, cursor))?;
            let Some((last, ..)) = chunk.last() else {
                return Ok(());
            };
            let next = if newest_first { last.id } else { last.last() };
            for (stored, conversation, labels) in &chunk {
                let mut exchanges: Vec<_> = stored.exchanges(conversation, labels).collect();
                if newest_first {
                    exchanges.reverse();
                }
                for exchange in exchanges {
                    let is_beyond = page.beyond.is_none_or(|beyond| match page.order {
                        Order::OldestFirst => exchange.id > beyond,
                        Order::NewestFirst => exchange.id < beyond,
                    });
                    let is_after = page.until.is_some_and(|until| match page.order {
                        Order::OldestFirst => exchange.id > until,
                        Order::NewestFirst => exchange.id < until,
                    });
                    if is_after {
                        return Ok(());
                    }
                    if is_beyond && is_match(&exchange) && take(exchange) {
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
            let mut total = 0;
            self.scan(filter, everything(now), |_| {
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
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>> {
        Box::pin(async move { self.with(|data| data.conversations.get(&id).map(Known::listed)) })
    }

    fn messages(
        &self,
        id: ConversationId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>> {
        Box::pin(async move { self.with(|data| data.messages(id, from_n, limit)) })
    }

    fn marks(&self, id: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>> {
        Box::pin(async move {
            self.with(|data| {
                let known = data.conversations.get(&id);
                known.map_or_else(Vec::new, |known| known.marks.clone())
            })
        })
    }

    fn label(&self, change: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            self.with(|data| data.label(&change))?.map_err(|why| {
                let what = why.to_string();
                StoreError::new(StoreLocation::Memory, StoreErrorKind::InvalidLabel { what })
            })
        })
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>> {
        Box::pin(async { self.with(|data| data.tags()) })
    }

    fn series<'a>(
        &'a self,
        filter: &'a Filter,
        times: Range<Micros>,
        step: Micros,
        now: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>> {
        Box::pin(async move {
            let mut series = SeriesBuilder::new(times, step);
            self.scan(filter, everything(now), |exchange| {
                series.add(&exchange.borrow());
                false
            })?;
            Ok(series.finish())
        })
    }

    fn delete<'a>(
        &'a self,
        filter: &'a Filter,
        confirmed: u64,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut ids = BTreeSet::new();
            self.scan(filter, everything(now), |exchange| !ids.insert(exchange.id))?;
            if ids.len() as u64 != confirmed {
                return Ok(ids.len() as u64);
            }
            self.with(|data| data.delete(&ids))
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

/// A page of all exchanges.
fn everything(now: Micros) -> Page {
    Page {
        order: Order::OldestFirst,
        beyond: None,
        until: None,
        limit: usize::MAX,
        now,
    }
}
