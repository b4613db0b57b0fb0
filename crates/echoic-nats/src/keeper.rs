//! A keeper: writes the batches of other processes to a store.

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::jetstream::{
    AckKind, Message, consumer::PullConsumer, message::PublishMessage,
    stream::LastRawMessageErrorKind,
};
use echoic_core::{
    event::{Batch, InvalidBatch},
    store::{Store, StoreError},
};
use futures_util::{FutureExt, StreamExt};
use tokio::{
    select,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Connection, KeeperCounts, KeeperTotals, NatsError, NatsErrorKind,
    alive::end_dead,
    message::{InvalidMessage, Received, Reference, read},
    stream::{ANSWER_TIMEOUT, LANES, RecordStream},
};

/// How long JetStream holds a request for a message.
const PULL_EXPIRES: Duration = Duration::from_secs(20);

/// Sign of life of JetStream while there is no message.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Pause before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Interval of telling JetStream that messages are worked at: an append may take long.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// Time at the end for the last batches to be written.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A message with batches.
struct Delivery {
    message: Message,
    batches: Vec<Arc<Batch>>,
    /// It refers to these parts, which are deleted when it is acknowledged.
    reference: Option<Reference>,
}

/// Writes what comes at the stream of the connection to `store`, until `stop` is ready. A message is acknowledged when the
/// store has committed its batches. `ready` is called when batches can come, `failing` when the store fails and when it
/// does no longer. What is done is added to `counts`.
pub async fn run_keeper(
    connection: &Connection,
    store: Arc<dyn Store>,
    counts: &Arc<KeeperCounts>,
    ready: impl FnOnce(),
    failing: impl Fn(Option<&StoreError>) + Send + Sync,
    stop: impl Future<Output = ()>,
) -> Result<KeeperTotals, NatsError> {
    let stream = RecordStream::open(connection).await?;
    let (deliver, deliveries) = mpsc::channel(LANES as usize);
    let (stopping, stopped) = watch::channel(());
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let lane = Lane {
            stream: stream.clone(),
            consumer: stream.lane(lane).await?,
            deliver: deliver.clone(),
            stopped: stopped.clone(),
            counts: Arc::clone(counts),
        };
        lanes.spawn(lane.run());
    }
    drop(deliver);
    ready();
    let mut writer = Writer {
        stream: stream.clone(),
        store: Arc::clone(&store),
        deliveries,
        failing,
        counts,
    };
    let stop = async {
        stop.await;
        drop(stopping);
        sleep(DRAIN_TIMEOUT).await;
    };
    let failed = async {
        while let Some(ended) = lanes.join_next().await {
            if let Ok(Err(error)) = ended {
                return error;
            }
        }
        std::future::pending().await
    };
    let outcome = select! {
        biased;
        error = failed => Err(error),
        () = writer.run() => Ok(()),
        () = end_dead(&stream, store) => Ok(()),
        () = stop => {
            tracing::warn!("the last batches were not written: they stay in the stream");
            Ok(())
        }
    };
    let _ = timeout(ANSWER_TIMEOUT, arrived(connection)).await;
    outcome.map(|()| counts.totals())
}

/// Waits until the last acknowledgements have arrived.
async fn arrived(connection: &Connection) -> Option<()> {
    let inbox = connection.client.new_inbox();
    let mut own = connection.client.subscribe(inbox.clone()).await.ok()?;
    connection.confirm(&inbox, &mut own).await.ok()
}

/// Receives the messages of one lane.
struct Lane {
    stream: RecordStream,
    consumer: PullConsumer,
    deliver: mpsc::Sender<Delivery>,
    stopped: watch::Receiver<()>,
    counts: Arc<KeeperCounts>,
}

impl Lane {
    /// Runs until the keeper stops, or meets batches of another version.
    async fn run(mut self) -> Result<(), NatsError> {
        loop {
            let messages = self
                .consumer
                .stream()
                .max_messages_per_batch(1)
                .expires(PULL_EXPIRES)
                .heartbeat(HEARTBEAT)
                .messages();
            let messages = select! {
                messages = messages => messages,
                _ = self.stopped.changed() => return Ok(()),
            };
            let Ok(mut messages) = messages else {
                if self.pause().await {
                    return Ok(());
                }
                continue;
            };
            loop {
                let next = select! {
                    next = messages.next() => next,
                    _ = self.stopped.changed() => {
                        // One that has come already need not come to another keeper.
                        let Some(Some(Ok(message))) = messages.next().now_or_never() else {
                            return Ok(());
                        };
                        return self.deliver(message).await;
                    }
                };
                match next {
                    Some(Ok(message)) => self.deliver(message).await?,
                    Some(Err(error)) => {
                        tracing::debug!("receiving batches: {error}");
                        break;
                    }
                    None => break,
                }
            }
            if self.pause().await {
                return Ok(());
            }
        }
    }

    /// Waits a moment. Returns whether the keeper stops.
    async fn pause(&mut self) -> bool {
        select! {
            () = sleep(RETRY) => false,
            _ = self.stopped.changed() => true,
        }
    }

    async fn deliver(&self, message: Message) -> Result<(), NatsError> {
        if message.info().is_ok_and(|info| info.delivered > 1) {
            self.counts.add_redelivery();
        }
        let received = match read(&message.payload) {
            Ok(Received::Batches(batches)) => Ok((batches, None)),
            Ok(Received::Reference(reference)) => match self.fetch(reference).await {
                Ok(batches) => Ok((batches, Some(reference))),
                Err(Unfetched::Again(why)) => {
                    tracing::warn!("the parts of batch {} do not come: {why}", reference.batch);
                    sleep(RETRY).await;
                    let _ = message.ack_with(AckKind::Nak(None)).await;
                    return Ok(());
                }
                Err(Unfetched::Invalid(why)) => Err(why),
            },
            Err(why) => Err(why),
        };
        let (batches, reference) = match received {
            Ok(received) => received,
            Err(InvalidMessage::Batch(why @ InvalidBatch::Version { .. })) => {
                let why = NatsErrorKind::Unusable(why.to_string());
                return Err(NatsError::new(self.stream.connection.url(), why));
            }
            Err(why) => {
                self.set_aside(&message, &why).await;
                return Ok(());
            }
        };
        let delivery = Delivery {
            message,
            batches,
            reference,
        };
        // Fails only if the keeper has given up: then another one gets it.
        let _ = self.deliver.send(delivery).await;
        Ok(())
    }

    /// Puts the parts of a batch together. No batch, if the parts are gone: then it was written and acknowledged before.
    async fn fetch(&self, reference: Reference) -> Result<Vec<Arc<Batch>>, Unfetched> {
        let subject = self.stream.names.parts(reference.batch);
        let mut bytes = Vec::new();
        for number in 0..reference.parts {
            let subject = format!("{subject}.{number}");
            let part = self
                .stream
                .batches
                .get_last_raw_message_by_subject(&subject);
            let part = timeout(ANSWER_TIMEOUT, part)
                .await
                .map_err(|_| Unfetched::Again("JetStream gave no answer in time".to_owned()))?;
            match part {
                Ok(part) => bytes.extend_from_slice(&part.payload),
                Err(why) if why.kind() == LastRawMessageErrorKind::NoMessageFound => {
                    tracing::warn!("batch {} came again without its parts", reference.batch);
                    return Ok(Vec::new());
                }
                Err(why) => return Err(Unfetched::Again(why.to_string())),
            }
            if bytes.len() as u64 > reference.bytes {
                break;
            }
        }
        if bytes.len() as u64 != reference.bytes {
            return Err(Unfetched::Invalid(InvalidMessage::Short));
        }
        let batch = Batch::read_from(&bytes).map_err(|why| Unfetched::Invalid(why.into()))?;
        Ok(vec![Arc::new(batch)])
    }

    /// Stores a message that cannot be read under another subject: it delays no other, and is not lost.
    async fn set_aside(&self, message: &Message, why: &InvalidMessage) {
        let number = message.info().map_or(0, |info| info.stream_sequence);
        let aside = PublishMessage::build()
            .payload(message.payload.clone())
            .message_id(format!("unreadable/{number}"));
        let subject = self.stream.names.unreadable();
        let stored = async {
            let published = self
                .stream
                .context
                .send_publish(subject.clone(), aside)
                .await;
            published?.await
        };
        match timeout(ANSWER_TIMEOUT, stored).await {
            Ok(Ok(_)) => {
                self.counts.add_unreadable();
                tracing::error!("message {number} cannot be read ({why}): it is now at {subject}");
                let _ = message.double_ack_with(AckKind::Term).await;
            }
            _ => sleep(RETRY).await, // it comes again
        }
    }
}

/// Why the parts of a batch were not put together.
enum Unfetched {
    Again(String),
    Invalid(InvalidMessage),
}

/// Writes what the lanes deliver.
struct Writer<'a, F> {
    stream: RecordStream,
    store: Arc<dyn Store>,
    deliveries: mpsc::Receiver<Delivery>,
    failing: F,
    counts: &'a KeeperCounts,
}

impl<F: Fn(Option<&StoreError>) + Send + Sync> Writer<'_, F> {
    /// Runs until all lanes have ended. What has come by then is written in one commit each time.
    async fn run(&mut self) {
        while let Some(first) = self.deliveries.recv().await {
            let mut deliveries = vec![first];
            while let Ok(next) = self.deliveries.try_recv() {
                deliveries.push(next);
            }
            self.write(&deliveries).await;
            for delivery in &deliveries {
                self.acknowledge(delivery).await;
            }
        }
    }

    /// Appends until it succeeds. Meanwhile JetStream is told that the messages are worked at.
    async fn write(&mut self, deliveries: &[Delivery]) {
        let batches = || {
            let each = deliveries.iter().flat_map(|delivery| &delivery.batches);
            each.cloned().collect::<Vec<_>>()
        };
        let appending = async {
            let mut is_failing = false;
            while let Err(error) = self.store.append(batches()).await {
                self.counts.add_failure(&error);
                if !is_failing {
                    (self.failing)(Some(&error));
                }
                is_failing = true;
                sleep(RETRY).await;
            }
            if is_failing {
                (self.failing)(None);
            }
        };
        let progress = async {
            loop {
                sleep(PROGRESS_EVERY).await;
                for delivery in deliveries {
                    let _ = delivery.message.ack_with(AckKind::Progress).await;
                }
            }
        };
        select! {
            () = appending => {}
            () = progress => {}
        }
        let committed = batches();
        let exchanges = committed.iter().map(|batch| batch.exchanges()).sum();
        self.counts.add_commit(committed.len() as u64, exchanges);
    }

    /// Acknowledges what is written. If that is lost, the message comes again, and the store has its batches already.
    async fn acknowledge(&self, delivery: &Delivery) {
        let Some(reference) = delivery.reference else {
            if let Err(error) = delivery.message.ack().await {
                tracing::debug!("a message was not acknowledged: {error}");
            }
            return;
        };
        // The parts are deleted only if the reference to them surely does not come again.
        if delivery.message.double_ack().await.is_ok() {
            let subject = format!("{}.*", self.stream.names.parts(reference.batch));
            if let Err(error) = self.stream.batches.purge().filter(subject).await {
                tracing::warn!("the parts of batch {} stay: {error}", reference.batch);
            }
        }
    }
}
