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
        ConversationPage, Durability, Found, FoundConversations, Gap, Last, Order, Page, Retention,
        Stats, Store, StoreError,
    },
};

mod append;
mod carried;
mod checkpointer;
mod connection;
mod counts;
mod error;
mod file;
mod listing;
mod open_files;
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
        let path = file::real(path);
        // A file that another process is creating right now is not recognized as a store yet.
        let origin = connection::peek(&path).map_err(|why| Lock::holder(&path).unwrap_or(why))?;
        file::check_single_name(&path)?;
        let lock = Lock::acquire(&path)?;
        if origin == Origin::Nothing {
            file::create(&path)?;
        }
        let (writer, recovered) = Writer::open(&path, durability, on_change, lock)?;
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
    /// Whether every call reads the file that is at the path then.
    changes_at_once: bool,
}

impl SqliteReader {
    /// Opens the file at `path` for reading.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_observed(path, Arc::new(|_| {}))
    }

    /// Like [`SqliteReader::open`]; calls `on_change` when the file is renamed or removed, and when a search that goes on
    /// from an id ([`Page::beyond`], oldest first) has read all of it and goes on in the new file at the path. Other calls
    /// read the file that was opened.
    pub fn open_observed(path: &Path, on_change: OnFileChange) -> Result<Self, StoreError> {
        Self::open_inner(&file::real(path), on_change, false)
    }

    fn open_inner(
        path: &Path,
        on_change: OnFileChange,
        changes_at_once: bool,
    ) -> Result<Self, StoreError> {
        let reader = Reader::open(path, on_change)?;
        Ok(Self {
            path: path.to_owned(),
            reader: Worker::start("echoic-reader", path, reader)?,
            changes_at_once,
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let changes = self.changes_at_once;
        let run = move |reader: &mut Reader| {
            if changes && reader.has_successor() {
                reader.change(0);
            }
            job(reader)
        };
        self.reader.run(run).await
    }

    /// Reads a page, one chunk at a time: other requests are served in between, no snapshot is held for long (the
    /// write-ahead log could not restart before it is released), and dropping this future ends the search.
    async fn read_page(&self, mut scan: Scan) -> Result<Found, StoreError> {
        let mut found = Found::default();
        while !scan.is_done() {
            let chunk;
            (scan, chunk) = self.run(move |reader| reader.find(scan)).await?;
            found.exchanges.extend(chunk);
        }
        let last = found.exchanges.last().map(|last| last.id);
        found.next = last.filter(|_| scan.has_more());
        Ok(found)
    }

    fn reject<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, StoreError>> {
        let error = error::read_only(&self.path, "it was opened for reading only");
        Box::pin(ready(Err(error)))
    }
}

impl Store for SqliteReader {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        Box::pin(self.run(|reader| reader.last()))
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
            let (Order::OldestFirst, Some(last)) = (page.order, page.beyond) else {
                return self.read_page(Scan::page(filter, page)).await;
            };
            // Looked for first: once there is another file, the one being read is complete.
            let look = move |reader: &mut Reader| Ok((reader.has_successor(), reader.beyond(last)));
            let (has_next, beyond) = self.run(look).await?;
            let at = |beyond| Page {
                beyond: Some(beyond),
                ..page
            };
            let found = self.read_page(Scan::page(filter, at(beyond))).await?;
            if !has_next || !found.exchanges.is_empty() {
                return Ok(found);
            }
            let change = move |reader: &mut Reader| {
                reader.change(last);
                Ok(reader.beyond(last))
            };
            let beyond = self.run(change).await?;
            self.read_page(Scan::page(filter, at(beyond))).await
        })
    }

    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            if scan::selects_all(filter) {
                return self.run(|reader| reader.total()).await;
            }
            let (mut scan, mut total) = (Scan::all(filter, now), 0);
            while !scan.is_done() {
                let chunk;
                (scan, chunk) = self.run(move |reader| reader.count(scan)).await?;
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
                listing = self.run(move |reader| reader.list(listing)).await?;
            }
            Ok(listing.into_found())
        })
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>> {
        Box::pin(self.run(move |reader| reader.conversation(id)))
    }

    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        Box::pin(self.run(move |reader| reader.gaps(times, limit)))
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        Box::pin(self.run(Reader::stats))
    }

    fn prune(&self, _: Retention, _: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.reject()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.reader.close())
    }
}
