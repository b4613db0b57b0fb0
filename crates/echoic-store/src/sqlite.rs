//! A store in one SQLite file.
//!
//! One thread writes, one reads, and a third one syncs the write-ahead log and under load checkpoints it ([`checkpointer`]), each with
//! its own connection. In WAL mode they do not block each other, so a long search never delays an append. The store needs
//! no runtime: its threads wake the futures. The schema, commented for people who query the file, is in `schema/`.

use std::{
    future::ready,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use echoic_core::{
    event::{Batch, ConversationId, ExchangeId, Micros},
    exchange::Conversation,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Durability, Found, FoundConversations, Gap, Last, Page, Retention, Stats,
        Store, StoreError,
    },
};

mod append;
mod checkpointer;
mod connection;
mod counts;
mod error;
mod file;
mod listing;
#[doc(hidden)]
pub mod oracle;
mod pack;
mod prune;
mod reader;
mod row;
mod scan;
mod servers;
mod worker;
mod writer;

use connection::Origin;
use file::Lock;
use listing::Listing;
use reader::Reader;
use scan::Scan;
use worker::Worker;
use writer::Writer;

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
        let path = file::real(path);
        // A file that another process is creating right now is not recognized as a store yet.
        let origin = connection::peek(&path).map_err(|why| Lock::holder(&path).unwrap_or(why))?;
        file::check_single_name(&path)?;
        let lock = Lock::acquire(&path)?;
        if origin == Origin::Nothing {
            file::create(&path)?;
        }
        let (writer, recovered) = Writer::open(&path, durability, lock)?;
        let reserved = AtomicU64::new(writer.cache.state.last_conversation);
        let writer = Worker::start("echoic-store", &path, writer)?;
        Ok(Self {
            reader: SqliteReader::open(&path)?,
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
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>> {
        self.reader.conversation(id)
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

/// A store that only reads a SQLite file, also while another process writes it, as `log` does. It changes nothing, blocks
/// a writer for no longer than the read of one chunk, and rejects appends.
#[derive(Debug)]
pub struct SqliteReader {
    path: PathBuf,
    reader: Worker<Reader>,
}

impl SqliteReader {
    /// Opens the file at `path` for reading.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let path = file::real(path);
        let reader = Worker::start("echoic-reader", &path, Reader::open(&path)?)?;
        Ok(Self { path, reader })
    }

    fn reject<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, StoreError>> {
        let error = error::read_only(&self.path, "it was opened for reading only");
        Box::pin(ready(Err(error)))
    }
}

impl Store for SqliteReader {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        Box::pin(self.reader.run(|reader| reader.last()))
    }

    fn append(&self, _: Vec<Arc<Batch>>) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        self.reject()
    }

    fn reserve_conversations(&self, _: u64) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        self.reject()
    }

    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>> {
        Box::pin(async move {
            let mut scan = Scan::page(filter, page);
            let mut found = Found::default();
            // A chunk at a time: other requests are served in between, no snapshot is held for long (the write-ahead log
            // could not restart before it is released), and dropping this future ends the search.
            while !scan.is_done() {
                let chunk;
                (scan, chunk) = self.reader.run(move |reader| reader.find(scan)).await?;
                found.exchanges.extend(chunk);
            }
            found.next = found
                .exchanges
                .last()
                .map(|last| last.id)
                .filter(|_| scan.has_more());
            Ok(found)
        })
    }

    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            if scan::selects_all(filter) {
                return self.reader.run(|reader| reader.total()).await;
            }
            let (mut scan, mut total) = (Scan::all(filter, now), 0);
            while !scan.is_done() {
                let chunk;
                (scan, chunk) = self.reader.run(move |reader| reader.count(scan)).await?;
                total += chunk;
            }
            Ok(total)
        })
    }

    fn conversations<'a>(
        &'a self,
        filter: &'a Filter,
        page: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>> {
        Box::pin(async move {
            let mut listing = Listing::new(filter, page);
            // A chunk at a time, as in `find`.
            while !listing.is_done() {
                listing = self.reader.run(move |reader| reader.list(listing)).await?;
            }
            Ok(listing.into_found())
        })
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>> {
        Box::pin(self.reader.run(move |reader| reader.conversation(id)))
    }

    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        Box::pin(self.reader.run(move |reader| reader.gaps(times, limit)))
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        Box::pin(self.reader.run(Reader::stats))
    }

    fn prune(&self, _: Retention, _: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.reject()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.reader.close())
    }
}
