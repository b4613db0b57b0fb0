//! The record in one SQLite file.
//!
//! One thread writes, one reads, and under load one copies the log into the record ([`mover`]), each with a connection
//! of its own: WAL lets them not wait for each other, so that a long search never holds up the record. Nothing here
//! needs a runtime: the futures are woken by those threads. The schema is in `schema/`, and is meant to be read by
//! people too.

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
mod connection;
mod file;
mod listing;
mod mover;
#[doc(hidden)]
pub mod oracle;
mod pack;
mod problem;
mod prune;
mod reader;
mod row;
mod scan;
mod servers;
mod tally;
mod worker;
mod writer;

use connection::Origin;
use file::Lock;
use listing::Listing;
use reader::Reader;
use scan::Scan;
use worker::Worker;
use writer::Writer;

/// A record that a serve writes, and reads back. One at a time has the file; any number may read beside it
/// ([`SqliteReader`]).
///
/// Dropping it without [`Store::close`] closes it too: that blocks, and keeps the error to itself.
#[derive(Debug)]
pub struct SqliteStore {
    reader: SqliteReader,
    writer: Worker<Writer>,
    recovered: u64,
    /// The last id of a conversation that was given or reserved.
    reserved: AtomicU64,
    /// There was no file before.
    made: bool,
}

impl SqliteStore {
    /// Opens the record at `path`, or makes one with mode 0600. Blocks for as long as that takes: after a crash,
    /// until what was written last has been read again.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let path = file::real(path);
        // A record that another is making this moment is not yet like one.
        let origin = connection::peek(&path).map_err(|why| Lock::holder(&path).unwrap_or(why))?;
        let lock = Lock::take(&path)?;
        if origin == Origin::Nothing {
            file::create(&path)?;
        }
        let (writer, recovered) = Writer::open(&path, durability, lock)?;
        let reserved = AtomicU64::new(writer.memory.state.last_conversation);
        let writer = Worker::start("echoic-store", &path, writer)?;
        Ok(Self {
            reader: SqliteReader::open(&path)?,
            writer,
            recovered,
            reserved,
            made: origin == Origin::Nothing,
        })
    }

    /// How many conversations were still open when this record was last written to: their ends were never told,
    /// and are recorded as lost.
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
        Box::pin(self.writer.ask(move |writer| writer.append(&batches)))
    }

    /// From a counter in memory, since nobody else writes to the file: it waits for nothing. After a restart it continues
    /// from the last id that was stored.
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

    fn prune(&self, keep: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.writer.ask(move |writer| writer.prune(keep, now)))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            // The reader first: whoever is the last to leave a file takes the write-ahead log away.
            let read = self.reader.close().await;
            self.writer.close().await.and(read)
        })
    }

    fn discard(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            if self.made {
                self.writer.ask(Writer::discard).await?;
            }
            self.close().await
        })
    }
}

/// A record that is only read, also while a serve writes it: `log`. It changes nothing, holds nothing up for
/// longer than a chunk takes to read, and refuses to append.
#[derive(Debug)]
pub struct SqliteReader {
    path: PathBuf,
    reader: Worker<Reader>,
}

impl SqliteReader {
    /// Opens the record at `path`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let path = file::real(path);
        let reader = Worker::start("echoic-reader", &path, Reader::open(&path)?)?;
        Ok(Self { path, reader })
    }

    fn refused<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, StoreError>> {
        let refusal = problem::read_only(&self.path, "it was opened to be read");
        Box::pin(ready(Err(refusal)))
    }
}

impl Store for SqliteReader {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        Box::pin(self.reader.ask(|reader| reader.last()))
    }

    fn append(&self, _: Vec<Arc<Batch>>) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        self.refused()
    }

    fn reserve_conversations(&self, _: u64) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        self.refused()
    }

    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>> {
        Box::pin(async move {
            let mut scan = Scan::page(filter, page);
            let mut found = Found::default();
            // A chunk at a time: other questions get their turn in between, no snapshot is held for long (the
            // write-ahead log could not be taken back beyond it), and who drops this future stops the search.
            while !scan.is_done() {
                let chunk;
                (scan, chunk) = self.reader.ask(move |reader| reader.find(scan)).await?;
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
            if scan::means_all(filter) {
                return self.reader.ask(|reader| reader.total()).await;
            }
            let (mut scan, mut total) = (Scan::all(filter, now), 0);
            while !scan.is_done() {
                let chunk;
                (scan, chunk) = self.reader.ask(move |reader| reader.count(scan)).await?;
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
                listing = self.reader.ask(move |reader| reader.list(listing)).await?;
            }
            Ok(listing.into_found())
        })
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<Conversation>, StoreError>> {
        Box::pin(self.reader.ask(move |reader| reader.conversation(id)))
    }

    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        Box::pin(self.reader.ask(move |reader| reader.gaps(times, limit)))
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        Box::pin(self.reader.ask(Reader::stats))
    }

    fn prune(&self, _: Retention, _: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.refused()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.reader.close())
    }
}
