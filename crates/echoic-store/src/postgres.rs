//! A store in a PostgreSQL database, which several servers may share.
//!
//! One connection writes, a few others read. They are driven by threads of the store, so that encoding an append delays no
//! conversation, dropping a future does not undo its operation, and the store needs no runtime of its caller. The schema,
//! commented for people who query the database, is in `schema-postgres/`.

use std::{
    fmt,
    future::{Future, ready},
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use echoic_core::{
    event::{Batch, ConversationId, ExchangeId, Mark, Micros, ServerId},
    exchange::Exchange,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Durability, Found, FoundConversations, Gap, LabelChange, Last,
        ListedConversation, Page, RecordingServer, Retention, Series, Stats, Store, StoreError,
        StoreErrorKind, TagCount,
    },
};

use tokio::sync::{OnceCell, Semaphore};

mod append;
mod connect;
mod counts;
mod delete;
mod error;
mod events;
mod follow;
mod gaps;
mod labels;
mod listing;
mod messages;
mod parts;
mod plan;
mod presence;
mod readers;
mod row;
mod rows;
mod runs;
mod schema;
mod search;
mod sequence;
mod series;
mod servers;
mod snapshot;
mod sql;
mod threads;
mod tls;
mod url;
mod writer;

use follow::Follow;
use readers::Readers;
use threads::Threads;
use writer::Writer;

pub use url::{Login, PostgresUrl, UrlError};

/// What a process does with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresMode {
    /// Records into it; makes or migrates the schema first, if it may.
    Write(Durability),
    /// Reads it, and writes labels.
    Read,
}

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    url: PostgresUrl,
    threads: Threads,
    readers: Arc<Readers>,
    writer: Option<Arc<Writer>>,
    recovered: u64,
    /// A permit for each call that changes something: closing takes all of them.
    calls: Arc<Semaphore>,
    follow: Follow,
    closed: Arc<OnceCell<Result<(), StoreError>>>,
}

/// Maximum of calls at the same time.
const CALLS_MAX: u32 = 1 << 16;

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("url", &self.url.to_string())
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects to the database. Blocks until that is done, for some seconds at most.
    pub fn open(url: &PostgresUrl, mode: PostgresMode) -> Result<Self, StoreError> {
        let threads = Threads::start().map_err(|why| error::failed(url, why.to_string()))?;
        let opened = threads.block_on(Self::connect(url.clone(), mode));
        let stopped = || error::failed(url, "its threads have stopped");
        let (readers, writer, recovered) = opened.ok_or_else(stopped)??;
        Ok(Self {
            url: url.clone(),
            threads,
            readers,
            writer,
            recovered,
            calls: Arc::new(Semaphore::new(CALLS_MAX as usize)),
            follow: Follow::default(),
            closed: Arc::default(),
        })
    }

    async fn connect(
        url: PostgresUrl,
        mode: PostgresMode,
    ) -> Result<(Arc<Readers>, Option<Arc<Writer>>, u64), StoreError> {
        let readers = Arc::new(Readers::new(url.clone()));
        match mode {
            PostgresMode::Read => {
                readers.check().await?;
                Ok((readers, None, 0))
            }
            PostgresMode::Write(durability) => {
                let (writer, recovered) = Writer::open(url, durability).await?;
                Ok((readers, Some(writer), recovered))
            }
        }
    }

    /// Returns the number of conversations that were open when their server died, long enough ago. Their close reason is
    /// `process-died`.
    pub fn recovered(&self) -> u64 {
        self.recovered
    }

    /// Reads with a job that is ended if the caller does not wait for its end.
    fn read<T: Send + 'static, F>(
        &self,
        job: impl FnOnce(Arc<Readers>) -> F,
    ) -> BoxFuture<'_, Result<T, StoreError>>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        if self.calls.is_closed() {
            return Box::pin(ready(Err(self.closed())));
        }
        let job = job(Arc::clone(&self.readers));
        Box::pin(async move {
            let done = self.threads.run_while_wanted(job).await;
            done.unwrap_or_else(|| Err(self.closed()))
        })
    }

    /// Changes something with a job that goes on to its end.
    fn change<T: Send + 'static, F>(
        &self,
        job: impl FnOnce(Arc<Readers>) -> F,
    ) -> BoxFuture<'_, Result<T, StoreError>>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.finishing(job(Arc::clone(&self.readers)))
    }

    /// Writes with a job that goes on to its end.
    fn write<T: Send + 'static, F>(
        &self,
        job: impl FnOnce(Arc<Writer>) -> F,
    ) -> BoxFuture<'_, Result<T, StoreError>>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        match self.writer.clone() {
            Some(writer) => self.finishing(job(writer)),
            None => {
                let why = error::read_only(&self.url, "it was opened for reading only");
                Box::pin(ready(Err(why)))
            }
        }
    }

    fn finishing<T: Send + 'static>(
        &self,
        job: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        // Taken now: closing waits for the calls that were made before.
        let permit = Arc::clone(&self.calls).try_acquire_owned();
        Box::pin(async move {
            let Ok(permit) = permit else {
                return Err(self.closed());
            };
            let job = async move {
                let done = job.await;
                drop(permit);
                done
            };
            let done = self.threads.run(job).await;
            done.unwrap_or_else(|| Err(self.closed()))
        })
    }

    /// Finishes earlier calls and closes the connections.
    async fn finish(&self) -> Result<(), StoreError> {
        self.follow.stop();
        let (calls, closed) = (Arc::clone(&self.calls), Arc::clone(&self.closed));
        let (readers, writer) = (Arc::clone(&self.readers), self.writer.clone());
        let job = async move {
            let closing = closed.get_or_init(|| async move {
                let earlier = calls.acquire_many(CALLS_MAX).await;
                calls.close();
                drop(earlier);
                readers.close();
                match writer {
                    Some(writer) => writer.close().await,
                    None => Ok(()),
                }
            });
            closing.await.clone()
        };
        let done = self.threads.run(job).await;
        self.threads.stop();
        done.or_else(|| self.closed.get().cloned())
            .unwrap_or(Ok(()))
    }

    fn closed(&self) -> StoreError {
        StoreError::new(self.url.location(), StoreErrorKind::Closed)
    }
}

impl Store for PostgresStore {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        self.read(|readers| async move { readers.last().await })
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        self.write(|writer| async move { writer.append(batches).await })
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        self.write(move |writer| async move { writer.reserve(count).await })
    }

    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>> {
        self.read(|readers| search::find(readers, filter.clone(), page))
    }

    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.read(|readers| search::count(readers, filter.clone(), now))
    }

    fn conversations<'a>(
        &'a self,
        filter: &'a Filter,
        page: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>> {
        self.read(|readers| listing::conversations(readers, filter.clone(), page))
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>> {
        self.read(|readers| listing::conversation(readers, id))
    }

    fn messages(
        &self,
        id: ConversationId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>> {
        self.read(|readers| messages::messages(readers, id, from_n, limit))
    }

    fn marks(&self, id: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.read(|readers| messages::marks(readers, id))
    }

    fn label(&self, change: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.change(|readers| labels::label(readers, change))
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>> {
        self.read(labels::tags)
    }

    fn series<'a>(
        &'a self,
        filter: &'a Filter,
        times: Range<Micros>,
        step: Micros,
        now: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>> {
        self.read(|readers| series::series(readers, filter.clone(), times, step, now))
    }

    fn delete<'a>(
        &'a self,
        filter: &'a Filter,
        confirmed: u64,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.change(|readers| delete::delete(readers, filter.clone(), confirmed, now))
    }

    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        self.read(|readers| gaps::gaps(readers, times, limit))
    }

    fn servers(&self, limit: usize) -> BoxFuture<'_, Result<Vec<RecordingServer>, StoreError>> {
        self.read(move |readers| presence::servers(readers, limit))
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.read(gaps::stats)
    }

    fn prune(&self, retention: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.write(move |writer| async move { writer.prune(retention, now).await })
    }

    fn changed(&self, beyond: ExchangeId) -> Option<BoxFuture<'_, ()>> {
        let mut newest = self.follow.newest(|listener| {
            let listening = listener.run(Arc::clone(&self.readers));
            self.threads.start_job(listening)
        })?;
        Some(Box::pin(async move {
            let _ = newest.wait_for(|newest| *newest > beyond).await;
        }))
    }

    fn open_servers(&self) -> BoxFuture<'_, Result<Vec<ServerId>, StoreError>> {
        self.write(|writer| async move { writer.open_servers().await })
    }

    fn end_server(&self, server: ServerId) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.write(move |writer| async move { writer.end_server(server).await })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.finish())
    }
}
