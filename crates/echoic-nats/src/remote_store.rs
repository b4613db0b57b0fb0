//! A store that passes batches on: they go to a stream, and keepers write them elsewhere.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Display,
    future::ready,
    ops::{Range, RangeInclusive},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::{message::PublishMessage, stream::Stream};
use bytes::Bytes;
use echoic_core::{
    event::{Batch, BatchId, ConversationId, ExchangeId, Mark, Micros, ServerId},
    exchange::Exchange,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Found, FoundConversations, Gap, LabelChange, Last, ListedConversation,
        Page, Retention, Series, Stats, Store, StoreError, StoreErrorKind, StoreLocation, TagCount,
    },
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use crate::{
    Connection, NatsError, NatsUrl,
    alive::Alive,
    message::{BATCH_BYTES_MAX, Outgoing, Reference, messages},
    stream::{ANSWER_TIMEOUT, RecordStream},
};

/// Bytes of a payload that are left for the headers.
const HEADER_BYTES: usize = 512;

/// Messages of the greatest length that fit into a stream.
const MESSAGES_MIN: usize = 8;

/// Time to wait for room in a stream that is full, and pause before another attempt. A keeper makes room again and again: a server
/// goes on with that, rather than failing each time.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// What JetStream says of a stream that is full.
const FULL: &str = "maximum bytes exceeded";

/// Ids of conversations in a block, of which each server reserves one at a time.
const BLOCK: u64 = 65_536;

/// A store that publishes batches to a stream of JetStream, from which keepers write them to another store.
///
/// An append is done when JetStream has acknowledged the batches. The ids of exchanges are given by the store that they come
/// to, so they are 0 here, and that store answers searches.
#[derive(Debug)]
pub struct RemoteStore {
    stream: RecordStream,
    /// Numbers the blocks of conversation ids.
    conversations: Stream,
    /// Held while batches are published: they stay in their order. The servers whose batches were published have a sign of life.
    publishing: Mutex<HashMap<ServerId, Option<Alive>>>,
    closed: AtomicBool,
}

impl RemoteStore {
    /// Connects, and opens the stream of the URL; whoever comes first creates it. `name` is what NATS lists the connection as.
    pub async fn open(url: &NatsUrl, name: &str) -> Result<Self, NatsError> {
        let connection = Connection::open(url, name).await?;
        let stream = RecordStream::open(&connection).await?;
        Ok(Self {
            conversations: stream.conversations().await?,
            stream,
            publishing: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Returns the connection, with the stream in its URL.
    pub fn connection(&self) -> &Connection {
        &self.stream.connection
    }

    fn error(&self, kind: StoreErrorKind) -> StoreError {
        let url = self.stream.connection.url().to_string();
        StoreError::new(StoreLocation::Url(url), kind)
    }

    fn failed(&self, what: &dyn Display) -> StoreError {
        let what = what.to_string();
        self.error(StoreErrorKind::Failed { what })
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(self.error(StoreErrorKind::Closed));
        }
        if !self.stream.connection.is_up() {
            return Err(self.failed(&"the connection is lost"));
        }
        Ok(())
    }

    fn room(&self) -> usize {
        let max_payload = self.stream.connection.client.max_payload();
        // Several messages fit into the stream, however small it is.
        let most = self.stream.bytes_max() / MESSAGES_MIN;
        max_payload
            .min(most)
            .saturating_sub(HEADER_BYTES)
            .max(HEADER_BYTES)
    }

    /// Publishes a message, and waits until JetStream has stored it; for room too, for a while. Returns its number in the stream.
    /// With the `id` of an earlier message it is not stored again.
    async fn publish(
        &self,
        subject: String,
        id: &str,
        payload: Vec<u8>,
    ) -> Result<u64, StoreError> {
        let (payload, deadline) = (Bytes::from(payload), Instant::now() + ROOM_TIMEOUT);
        loop {
            let published = self.publish_once(subject.clone(), id, payload.clone());
            match published.await {
                Err(StoreError {
                    kind: StoreErrorKind::Failed { what },
                    ..
                }) if what.contains(FULL) && Instant::now() < deadline => {
                    sleep(ROOM_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn publish_once(
        &self,
        subject: String,
        id: &str,
        payload: Bytes,
    ) -> Result<u64, StoreError> {
        let message = PublishMessage::build().payload(payload).message_id(id);
        let publishing = async {
            let published = self.stream.context.send_publish(subject, message).await;
            published?.await
        };
        let published = timeout(ANSWER_TIMEOUT, publishing).await;
        let published = published.map_err(|_| self.failed(&"JetStream gave no answer in time"))?;
        let acknowledged = published.map_err(|error| {
            use std::error::Error;
            let source = error.source().map(ToString::to_string);
            self.failed(&source.unwrap_or_else(|| error.to_string()))
        })?;
        Ok(acknowledged.sequence)
    }

    async fn publish_batches(&self, batches: &[Arc<Batch>]) -> Result<(), StoreError> {
        let mut alive = self.publishing.lock().await;
        for batch in batches {
            // Before their conversations are in any record.
            let server = batch.server.id;
            if let Entry::Vacant(unknown) = alive.entry(server) {
                let subject = self.stream.names.alive(server);
                unknown.insert(Alive::start(&self.stream.connection.client, subject).await);
            }
        }
        for outgoing in messages(batches, self.room()) {
            // Before each: what was sent while the connection is lost would wait in memory.
            self.check_open()?;
            match outgoing {
                Outgoing::Message {
                    first,
                    last,
                    payload,
                } => {
                    let subject = self.stream.names.batches(first.server);
                    let id = if first.number == last {
                        first.to_string()
                    } else {
                        format!("{first}-{last}")
                    };
                    self.publish(subject, &id, payload).await?;
                }
                Outgoing::Long { batch, bytes } => self.publish_long(batch, &bytes).await?,
            }
        }
        Ok(())
    }

    /// Publishes the parts of a batch, and then a reference to them.
    async fn publish_long(&self, batch: BatchId, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(self.failed(&format!("a batch of {} bytes is too long", bytes.len())));
        }
        if bytes.len() > self.stream.bytes_max() / 2 {
            let (len, most) = (bytes.len(), self.stream.bytes_max());
            let what = format!(
                "a batch of {len} bytes does not fit into the stream of {most} bytes: raise its max_bytes"
            );
            return Err(self.failed(&what));
        }
        let subject = self.stream.names.parts(batch);
        // JetStream sends a part back in base64, which must fit into a payload too.
        let parts = bytes.chunks(self.room() / 2);
        let reference = Reference {
            batch,
            parts: parts.len() as u64,
            bytes: bytes.len() as u64,
        };
        for (number, part) in (0_u64..).zip(parts) {
            let id = format!("{batch}/{number}");
            let subject = format!("{subject}.{number}");
            self.publish(subject, &id, part.to_vec()).await?;
        }
        let subject = self.stream.names.batches(batch.server);
        self.publish(subject, &batch.to_string(), reference.write())
            .await
            .map(drop)
    }

    /// Numbers the next block by a message in a stream: no two get the same number. The time at which that stream was created is
    /// added, so that one that was deleted and created again does not begin anew.
    async fn reserve(&self, count: u64) -> Result<ConversationId, StoreError> {
        self.check_open()?;
        if count > BLOCK {
            return Err(self.failed(&format!("at most {BLOCK} ids can be reserved at a time")));
        }
        let subject = self.stream.names.conversations();
        let id = format!("{:016x}", fastrand::u64(..));
        let number = self.publish(subject, &id, Vec::new()).await?;
        let created = self.conversations.cached_info().created.unix_timestamp();
        let created = u64::try_from(created).unwrap_or(0);
        Ok((created + number) * BLOCK)
    }

    /// The error of all that reads the record.
    fn elsewhere<T>(&self) -> BoxFuture<'_, Result<T, StoreError>>
    where
        T: Send + 'static,
    {
        Box::pin(ready(Err(self.error(StoreErrorKind::Elsewhere))))
    }
}

impl Store for RemoteStore {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        self.elsewhere()
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        Box::pin(async move {
            self.check_open()?;
            self.publish_batches(&batches).await?;
            Ok(vec![0; batches.len()])
        })
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        Box::pin(self.reserve(count))
    }

    fn find<'a>(&'a self, _: &'a Filter, _: Page) -> BoxFuture<'a, Result<Found, StoreError>> {
        self.elsewhere()
    }

    fn count<'a>(&'a self, _: &'a Filter, _: Micros) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.elsewhere()
    }

    fn conversations<'a>(
        &'a self,
        _: &'a Filter,
        _: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>> {
        self.elsewhere()
    }

    fn conversation(
        &self,
        _: ConversationId,
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>> {
        self.elsewhere()
    }

    fn messages(
        &self,
        _: ConversationId,
        _: u64,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>> {
        self.elsewhere()
    }

    fn marks(&self, _: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.elsewhere()
    }

    fn label(&self, _: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.elsewhere()
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>> {
        self.elsewhere()
    }

    fn series<'a>(
        &'a self,
        _: &'a Filter,
        _: Range<Micros>,
        _: Micros,
        _: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>> {
        self.elsewhere()
    }

    fn delete<'a>(
        &'a self,
        _: &'a Filter,
        _: u64,
        _: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.elsewhere()
    }

    fn gaps(
        &self,
        _: RangeInclusive<Micros>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        self.elsewhere()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.elsewhere()
    }

    /// Deletes nothing: the retention is that of the store that keepers write to.
    fn prune(&self, _: Retention, _: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(ready(Ok(0)))
    }

    /// All that was appended is acknowledged, so there is nothing to wait for.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.closed.store(true, Ordering::Relaxed);
        Box::pin(ready(Ok(())))
    }
}
