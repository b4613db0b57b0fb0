//! A worker: answers the runs of other processes' conversations.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{Client, Message, Subscriber};
use echoic_core::service::Service;
use futures_util::StreamExt;
use tokio::{
    select,
    time::{sleep, timeout, timeout_at},
};

use crate::{
    Connection, NatsError, NatsErrorKind,
    protocol::{Answer, Question, answer, read, write},
    transfer::{Next, Transfers},
};

/// The queue group of all workers of a subject: NATS gives each message to one of them.
const QUEUE_GROUP: &str = "echoic";

/// Time at the end for what has been received to be answered.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Time at the end for transfers that have begun.
const TRANSFERS_TIMEOUT: Duration = Duration::from_secs(1);

/// What a worker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Runs answered.
    pub runs: u64,
    /// Their messages.
    pub messages: u64,
    /// Bytes of payloads received.
    pub received: u64,
    /// Bytes of payloads sent.
    pub sent: u64,
    /// Runs that could not be answered: the service failed, or the server is of another version.
    pub failed: u64,
    /// Answers that NATS did not take.
    pub unsent: u64,
    /// Payloads that are being answered: 1 or 0, since a worker answers one after the other.
    pub in_flight: u64,
    /// Time spent answering.
    pub busy: Duration,
}

/// Counts what a worker does, for whoever watches it.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    /// Messages that were taken from the connection.
    taken: AtomicU64,
    runs: AtomicU64,
    messages: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    unsent: AtomicU64,
    in_flight: AtomicU64,
    busy_ns: AtomicU64,
}

impl WorkerCounts {
    /// Returns the counts of now.
    pub fn now(&self) -> Worked {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Worked {
            runs: value(&self.runs),
            messages: value(&self.messages),
            received: value(&self.received),
            sent: value(&self.sent),
            failed: value(&self.failed),
            unsent: value(&self.unsent),
            in_flight: value(&self.in_flight),
            busy: Duration::from_nanos(value(&self.busy_ns)),
        }
    }

    /// Returns the messages that the connection has received and the worker has not looked at, `others` left out, which another
    /// task has taken from the same connection.
    pub fn pending(&self, connection: &Connection, others: u64) -> u64 {
        let taken = self.taken.load(Ordering::Relaxed) + others;
        let statistics = connection.client.statistics();
        let received = statistics.in_messages.load(Ordering::Relaxed);
        received.saturating_sub(taken)
    }
}

/// Adds to a count. Only one task writes, so that no count needs an order.
fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}

struct Worker<'a> {
    client: Client,
    service: Arc<dyn Service>,
    transfers: Transfers,
    counts: &'a WorkerCounts,
}

/// Answers with `service` at the subject of the connection, until `stop` is ready and all that was received is answered.
/// `ready` is called when the subject is served. What is done is added to `counts`.
pub async fn work(
    connection: &Connection,
    service: Arc<dyn Service>,
    counts: &WorkerCounts,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<Worked, NatsError> {
    let url = connection.url();
    if !service.is_portable() {
        let name = service.name().to_owned();
        return Err(NatsError::new(url, NatsErrorKind::NotPortable(name)));
    }
    let client = &connection.client;
    let inbox = client.new_inbox();
    let own = client.subscribe(inbox.clone()).await;
    let mut own = own.map_err(|error| NatsError::failed(url, &error))?;
    let (subject, group) = (url.name().to_owned(), QUEUE_GROUP.to_owned());
    let shared = client.queue_subscribe(subject, group).await;
    let shared = shared.map_err(|error| NatsError::failed(url, &error))?;
    let mut stop = pin!(stop);
    select! {
        confirmed = connection.confirm(&inbox, &mut own) => confirmed?,
        () = &mut stop => return Ok(counts.now()),
    }
    add(&counts.taken, 1);
    ready();
    let mut worker = Worker {
        client: client.clone(),
        service,
        transfers: Transfers::at(inbox),
        counts,
    };
    worker.serve(shared, own, stop).await;
    Ok(counts.now())
}

/// Returns until when a worker that stops may answer.
fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + DRAIN_TIMEOUT
}

impl Worker<'_> {
    async fn serve(
        &mut self,
        mut shared: Subscriber,
        mut own: Subscriber,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        let deadline = loop {
            let message = select! {
                message = shared.next() => message,
                message = own.next() => message,
                () = &mut stop => break deadline(),
            };
            let Some(message) = message else {
                return; // the client was closed
            };
            let mut processing = pin!(self.process(message));
            select! {
                () = &mut processing => {}
                // Sending waits for room, and for a lost connection: the answer is still to be sent.
                () = &mut stop => {
                    let deadline = deadline();
                    let _ = timeout_at(deadline, processing).await;
                    break deadline;
                }
            }
        };
        let drained = timeout_at(deadline, self.drain(&mut shared, &mut own)).await;
        if drained.is_err() {
            tracing::warn!("not all that was received was answered: NATS does not take it");
        }
    }

    /// Receives no more, answers what was received, and waits until the answers are sent.
    async fn drain(&mut self, shared: &mut Subscriber, own: &mut Subscriber) {
        if shared.drain().await.is_err() {
            return;
        }
        loop {
            let message = select! {
                message = shared.next() => message,
                Some(message) = own.next() => Some(message),
            };
            let Some(message) = message else {
                break;
            };
            self.process(message).await;
        }
        let rest = async {
            while !self.transfers.is_empty() {
                let Some(message) = own.next().await else {
                    return;
                };
                self.process(message).await;
            }
        };
        let _ = timeout(TRANSFERS_TIMEOUT, rest).await;
        while self.client.flush().await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn process(&mut self, message: Message) {
        add(&self.counts.taken, 1);
        let Some(reply) = message.reply else {
            return;
        };
        let counts = self.counts;
        add(&counts.received, message.payload.len());
        counts.in_flight.store(1, Ordering::Relaxed);
        let began = Instant::now();
        let answer = self.answer(&message.payload);
        let busy = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        counts.busy_ns.fetch_add(busy, Ordering::Relaxed);
        let length = answer.len();
        match self.client.publish(reply, answer.into()).await {
            Ok(()) => add(&counts.sent, length),
            Err(error) => {
                add(&counts.unsent, 1);
                tracing::warn!("an answer was not sent: {error}");
            }
        }
        counts.in_flight.store(0, Ordering::Relaxed);
    }

    /// Returns the payload of the answer.
    fn answer(&mut self, question: &[u8]) -> Vec<u8> {
        let max_payload = self.client.max_payload();
        let next = match read(question) {
            Some(Question::Hello) => {
                let service = self.service.name();
                let amplifies = self.service.amplifies();
                return write(&Answer::Hello { service, amplifies });
            }
            Some(Question::Run(run)) => return self.answer_run(run),
            Some(Question::First {
                transfer,
                total,
                part,
            }) => self.transfers.first(transfer, total, part, Instant::now()),
            Some(Question::More {
                transfer,
                offset,
                part,
            }) => self.transfers.more(transfer, offset, part),
            Some(Question::Rest { transfer, offset }) => {
                return self.transfers.rest(transfer, offset, max_payload);
            }
            None => {
                add(&self.counts.failed, 1);
                let why = "the server is of another version of echoic";
                return write(&Answer::Failed { why });
            }
        };
        match next {
            Next::Send(payload) => payload,
            Next::Run(run) => self.answer_run(&run),
        }
    }

    fn answer_run(&mut self, run: &[u8]) -> Vec<u8> {
        let service = &*self.service;
        // A panic ends one conversation, not the worker.
        let answered = catch_unwind(AssertUnwindSafe(|| answer(service, run)));
        match answered.unwrap_or(Err("the service panicked")) {
            Ok((answer, messages)) => {
                add(&self.counts.runs, 1);
                add(&self.counts.messages, messages);
                let max_payload = self.client.max_payload();
                self.transfers.answer(answer, max_payload, Instant::now())
            }
            Err(why) => {
                add(&self.counts.failed, 1);
                write(&Answer::Failed { why })
            }
        }
    }
}
