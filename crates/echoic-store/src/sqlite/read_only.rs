//! A SQLite file that another process may write, read as `log` and `echoic console` do.

use std::{
    collections::BTreeSet,
    future::ready,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use echoic_core::{
    event::{Batch, ConversationId, ExchangeId, Mark, Micros},
    exchange::Exchange,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Durability, Found, FoundConversations, Gap, LabelChange, Last,
        ListedConversation, Order, Page, Retention, Series, SeriesBuilder, Stats, Store,
        StoreError, TagCount,
    },
};

use super::{
    error,
    file::{self, Lock},
    labeller::Labeller,
    listing::Listing,
    messages::Messages,
    reader::Reader,
    worker::Worker,
    writer::{Writer, Writes},
};
use crate::{
    OnFileChange,
    scan::{self, Scan},
};

/// A store that reads a SQLite file, also while another process writes it, as `log` does. It blocks a writer for no longer than
/// the read of one chunk, and rejects appends. It can write labels at any time, and delete while no process writes.
#[derive(Debug)]
pub struct SqliteReader {
    path: PathBuf,
    reader: Worker<Reader>,
    /// Writes labels; started with the first.
    labeller: Mutex<Option<Arc<Worker<Labeller>>>>,
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

    /// Like [`SqliteReader::open_observed`], but every call reads the file that is at the path then. For a reader that shows
    /// the record as it is: ids may begin anew, if the file is of another server.
    pub fn follow(path: &Path, on_change: OnFileChange) -> Result<Self, StoreError> {
        Self::open_inner(&file::real(path), on_change, true)
    }

    pub(super) fn open_inner(
        path: &Path,
        on_change: OnFileChange,
        changes_at_once: bool,
    ) -> Result<Self, StoreError> {
        let reader = Reader::open(path, on_change)?;
        Ok(Self {
            path: path.to_owned(),
            reader: Worker::start("echoic-reader", path, reader)?,
            labeller: Mutex::default(),
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

    /// Returns the labeller, started if necessary.
    fn labeller(&self) -> Result<Arc<Worker<Labeller>>, StoreError> {
        self.reader.check_open()?;
        let mut labeller = self.labeller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(labeller) = &*labeller {
            return Ok(Arc::clone(labeller));
        }
        let opened = Labeller::open(&self.path)?;
        let started = Worker::start("echoic-labels", &self.path, opened)?;
        Ok(Arc::clone(labeller.insert(Arc::new(started))))
    }

    fn take_labeller(&self) -> Option<Arc<Worker<Labeller>>> {
        let mut labeller = self.labeller.lock().unwrap_or_else(PoisonError::into_inner);
        labeller.take()
    }

    /// Deletes the matching exchanges, if there are as many as `confirmed`, and conversations that have none left. Returns the
    /// number of matching exchanges.
    pub(super) async fn delete_by(
        &self,
        writer: &Worker<Writer>,
        filter: &Filter,
        confirmed: u64,
        now: Micros,
    ) -> Result<u64, StoreError> {
        let last = self.run(|reader| reader.last()).await?.exchange;
        let all = || {
            let mut scan = Scan::all(filter, now);
            scan.narrow(0, last);
            scan
        };
        let (mut scan, mut total) = (all(), 0);
        while !scan.is_done() {
            let found;
            (scan, found) = self.run(move |reader| reader.count(scan)).await?;
            total += found;
        }
        if total != confirmed {
            return Ok(total);
        }
        let (mut scan, mut deleted, mut conversations) = (all(), 0, BTreeSet::new());
        while !scan.is_done() {
            let found;
            (scan, found) = self.run(move |reader| reader.ids(scan)).await?;
            for found in found.chunks(DELETED_AT_ONCE) {
                let ids: Vec<ExchangeId> = found.iter().map(|(id, _)| *id).collect();
                let delete = move |writer: &mut Writer| writer.delete_exchanges(&ids);
                deleted += writer.run(delete).await?;
                conversations.extend(found.iter().map(|(_, conversation)| *conversation));
            }
        }
        let mut emptied = Vec::new();
        for id in conversations {
            if self.messages(id, 0, 1).await?.is_empty() {
                emptied.push(id);
            }
        }
        let delete = move |writer: &mut Writer| writer.delete_conversations(&emptied);
        writer.run(delete).await?;
        Ok(deleted)
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
            let look = move |reader: &mut Reader| {
                let has_next = reader.has_successor() && reader.ends_by(page.until);
                Ok((has_next, reader.beyond(last)))
            };
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
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>> {
        Box::pin(self.run(move |reader| reader.conversation(id)))
    }

    fn messages(
        &self,
        id: ConversationId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>> {
        Box::pin(async move {
            let mut messages = Messages::new(id, from_n, limit);
            // A chunk at a time, as in `find`.
            while !messages.is_done() {
                messages = self.run(move |reader| reader.messages(messages)).await?;
            }
            Ok(messages.into_found())
        })
    }

    fn marks(&self, id: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>> {
        Box::pin(self.run(move |reader| reader.marks(id)))
    }

    /// Writes labels beside the process that records, with a connection that is opened for the first of them.
    fn label(&self, change: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let labeller = self.labeller()?;
            labeller.run(move |labeller| labeller.label(&change)).await
        })
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>> {
        Box::pin(self.run(Reader::tags))
    }

    fn series<'a>(
        &'a self,
        filter: &'a Filter,
        times: Range<Micros>,
        step: Micros,
        now: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>> {
        Box::pin(async move {
            let mut scan = Scan::all(filter, now);
            scan.narrow_times(times.start, times.end.saturating_sub(1));
            let mut series = SeriesBuilder::new(times, step);
            // A chunk at a time, as in `find`.
            while !scan.is_done() {
                let next = self.run(move |reader| reader.series(scan, series));
                (scan, series) = next.await?;
            }
            Ok(series.finish())
        })
    }

    /// Deletes while it holds the lock of the store; fails if another process has it.
    fn delete<'a>(
        &'a self,
        filter: &'a Filter,
        confirmed: u64,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let path = self.path.clone();
            let open = move |_: &mut Reader| {
                let lock = Lock::acquire(&path)?;
                Writer::open(
                    &path,
                    Durability::Strict,
                    Arc::new(|_| {}),
                    lock,
                    Writes::Own,
                )
            };
            let (writer, _) = self.run(open).await?;
            let writer = Worker::start("echoic-delete", &self.path, writer)?;
            let deleted = self.delete_by(&writer, filter, confirmed, now).await;
            writer.close().await.and(deleted)
        })
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
        Box::pin(async {
            // The reader first, so that the labeller can remove the log that it has emptied.
            let read = self.reader.close().await;
            match self.take_labeller() {
                Some(labeller) => labeller.close().await.and(read),
                None => read,
            }
        })
    }
}

/// Exchanges deleted per transaction: some tens of milliseconds, during which appends wait.
const DELETED_AT_ONCE: usize = 1_000;
