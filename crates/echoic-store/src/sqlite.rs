//! A store in one SQLite file.
//!
//! One thread writes, one reads, and a third one syncs the write-ahead log and under load checkpoints it ([`checkpointer`]), each with
//! its own connection. In WAL mode they do not block each other, so a long search never delays an append. The store needs
//! no runtime: its threads wake the futures. The schema, commented for people who query the file, is in `schema/`.

use std::{
    future::ready,
    ops::{Range, RangeInclusive},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use echoic_core::{
    event::{Batch, ConversationId, ExchangeId, Mark, Micros, ServerId},
    exchange::Exchange,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Durability, Found, FoundConversations, Gap, LabelChange, Last,
        ListedConversation, Page, Retention, Series, Stats, Store, StoreError, TagCount,
    },
};

mod append;
mod carried;
mod checkpointer;
mod connection;
mod counts;
mod delete;
mod error;
mod file;
mod labeller;
mod labels;
mod listing;
mod messages;
mod open_files;
#[doc(hidden)]
pub mod oracle;
mod pack;
mod prune;
mod read_only;
mod reader;
mod row;
mod search;
mod sequence;
mod servers;
mod worker;
mod writer;

pub use read_only::SqliteReader;

use connection::Origin;
use file::Lock;
use worker::Worker;
use writer::{Writer, Writes};

use crate::OnFileChange;

/// A store that writes and reads a SQLite file. One process at a time may write the file; any number may read it
/// ([`SqliteReader`]).
///
/// Dropping it without [`Store::close`] closes it too, but blocks and discards the error.
#[derive(Debug)]
pub struct SqliteStore {
    reader: SqliteReader,
    writer: Worker<Writer>,
    recovered: u64,
    /// Last id of a conversation that was stored or reserved.
    reserved: AtomicU64,
    /// Whether this store created the file.
    is_new: bool,
}

impl SqliteStore {
    /// Opens the file at `path`, or creates it with mode 0600. Blocks until that is done: after a crash, until the recent
    /// runs have been counted again.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        Self::open_observed(path, durability, Arc::new(|_| {}))
    }

    /// Like [`SqliteStore::open`]; calls `on_change` when the file is renamed or removed, and when a new one at the same path
    /// has taken its place. Ids go on in the new file, and conversations that are open. If none can be made, appends fail
    /// until one can.
    pub fn open_observed(
        path: &Path,
        durability: Durability,
        on_change: OnFileChange,
    ) -> Result<Self, StoreError> {
        Self::open_as(path, durability, on_change, Writes::Own)
    }

    /// Like [`SqliteStore::open_observed`], for what other processes record: conversations that are open stay open, since they
    /// go on elsewhere, and the batches of more servers are remembered.
    pub fn open_for_others(
        path: &Path,
        durability: Durability,
        on_change: OnFileChange,
    ) -> Result<Self, StoreError> {
        Self::open_as(path, durability, on_change, Writes::OfOthers)
    }

    fn open_as(
        path: &Path,
        durability: Durability,
        on_change: OnFileChange,
        writes: Writes,
    ) -> Result<Self, StoreError> {
        let path = file::real(path);
        // A file that another process is creating right now is not recognized as a store yet.
        let origin = connection::peek(&path).map_err(|why| Lock::holder(&path).unwrap_or(why))?;
        file::check_single_name(&path)?;
        let lock = Lock::acquire(&path)?;
        if origin == Origin::Nothing {
            file::create(&path)?;
        }
        let (writer, recovered) = Writer::open(&path, durability, on_change, lock, writes)?;
        let reserved = AtomicU64::new(writer.cache.state.last_conversation);
        let writer = Worker::start("echoic-store", &path, writer)?;
        Ok(Self {
            reader: SqliteReader::open_inner(&path, Arc::new(|_| {}), true)?,
            writer,
            recovered,
            reserved,
            is_new: origin == Origin::Nothing,
        })
    }

    /// Returns the number of conversations that were open when the previous process died. Their close reason is
    /// `process-died`.
    pub fn recovered(&self) -> u64 {
        self.recovered
    }
}

impl Store for SqliteStore {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        self.reader.last()
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        Box::pin(self.writer.run(move |writer| writer.append(&batches)))
    }

    /// Reserves from a counter in memory, without waiting, since no other process writes to the file. After a restart it
    /// continues from the last stored id.
    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        let open = self.writer.check_open();
        let reserved = open.map(|()| self.reserved.fetch_add(count, Ordering::Relaxed) + 1);
        Box::pin(ready(reserved))
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
        Box::pin(self.writer.run(move |writer| writer.label(&change)))
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
        Box::pin(self.reader.delete_by(&self.writer, filter, confirmed, now))
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
        Box::pin(self.writer.run(move |writer| writer.prune(retention, now)))
    }

    fn open_servers(&self) -> BoxFuture<'_, Result<Vec<ServerId>, StoreError>> {
        Box::pin(self.writer.run(Writer::open_servers))
    }

    fn end_server(&self, server: ServerId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.writer.run(move |writer| writer.end_server(server)))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            // The reader first: the last connection to close removes the write-ahead log.
            let read = self.reader.close().await;
            self.writer.close().await.and(read)
        })
    }

    fn discard(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            if self.is_new {
                self.writer.run(Writer::discard).await?;
            }
            self.close().await
        })
    }
}
