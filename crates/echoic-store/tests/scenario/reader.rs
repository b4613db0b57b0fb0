//! A writing store and a reader of the same file as one store, so that the contract tests cover readers too.

use std::{
    ops::{Range, RangeInclusive},
    path::Path,
    sync::Arc,
};

use echoic_core::{
    event::{Batch, ConversationId, ExchangeId, Mark, Micros},
    exchange::Exchange,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Durability, Found, FoundConversations, Gap, LabelChange, Last,
        ListedConversation, Page, Retention, Series, Stats, Store, StoreError, TagCount,
    },
};
use echoic_store::{SqliteReader, SqliteStore};

pub(crate) struct WriterWithReader {
    writer: SqliteStore,
    reader: SqliteReader,
}

impl WriterWithReader {
    pub(crate) fn open(path: &Path) -> Self {
        Self {
            writer: SqliteStore::open(path, Durability::Off).unwrap(),
            reader: SqliteReader::open(path).unwrap(),
        }
    }
}

impl Store for WriterWithReader {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        self.reader.last()
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        self.writer.append(batches)
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        self.writer.reserve_conversations(count)
    }

    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>> {
        self.reader.find(filter, page)
    }

    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.reader.count(filter, now)
    }

    fn conversations<'a>(
        &'a self,
        filter: &'a Filter,
        page: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>> {
        self.reader.conversations(filter, page)
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>> {
        self.reader.conversation(id)
    }

    fn messages(
        &self,
        id: ConversationId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>> {
        self.reader.messages(id, from_n, limit)
    }

    fn marks(&self, id: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.reader.marks(id)
    }

    fn label(&self, change: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.reader.label(change)
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>> {
        self.reader.tags()
    }

    fn series<'a>(
        &'a self,
        filter: &'a Filter,
        times: Range<Micros>,
        step: Micros,
        now: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>> {
        self.reader.series(filter, times, step, now)
    }

    fn delete<'a>(
        &'a self,
        filter: &'a Filter,
        confirmed: u64,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.writer.delete(filter, confirmed, now)
    }

    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        self.reader.gaps(times, limit)
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.reader.stats()
    }

    fn prune(&self, retention: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.writer.prune(retention, now)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            self.reader.close().await?;
            self.writer.close().await
        })
    }
}
