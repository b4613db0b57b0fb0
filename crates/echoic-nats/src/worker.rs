//! A worker: answers the runs of other processes' conversations.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Client, Message, Subscriber};
use echoic_core::service::Service;
use futures_util::StreamExt;
use tokio::{
    select,
    time::{sleep, timeout},
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
}

struct Worker {
    client: Client,
    service: Arc<dyn Service>,
    transfers: Transfers,
    worked: Worked,
}

/// Answers with `service` at the subject of the connection, until `stop` is ready and all that was received is answered.
/// `ready` is called when the subject is served.
pub async fn work(
    connection: &Connection,
    service: Arc<dyn Service>,
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
    let own = own.map_err(|error| NatsError::failed(url, &error))?;
    let (subject, group) = (url.name().to_owned(), QUEUE_GROUP.to_owned());
    let shared = client.queue_subscribe(subject, group).await;
    let shared = shared.map_err(|error| NatsError::failed(url, &error))?;
    client
        .flush()
        .await
        .map_err(|error| NatsError::failed(url, &error))?;
    ready();
    let mut worker = Worker {
        client: client.clone(),
        service,
        transfers: Transfers::at(inbox),
        worked: Worked::default(),
    };
    worker.serve(shared, own, stop).await;
    Ok(worker.worked)
}

impl Worker {
    async fn serve(
        &mut self,
        mut shared: Subscriber,
        mut own: Subscriber,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let message = select! {
                message = shared.next() => message,
                message = own.next() => message,
                () = &mut stop => break,
            };
            let Some(message) = message else {
                return; // the client was closed
            };
            select! {
                () = self.process(message) => {}
                // Sending waits for a lost connection.
                () = &mut stop => break,
            }
        }
        let drained = timeout(DRAIN_TIMEOUT, self.drain(&mut shared, &mut own)).await;
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
        let Some(reply) = message.reply else {
            return;
        };
        let answer = self.answer(&message.payload);
        if let Err(error) = self.client.publish(reply, answer.into()).await {
            tracing::warn!("an answer was not sent: {error}");
        }
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
                self.worked.runs += 1;
                self.worked.messages += messages as u64;
                let max_payload = self.client.max_payload();
                self.transfers.answer(answer, max_payload, Instant::now())
            }
            Err(why) => write(&Answer::Failed { why }),
        }
    }
}
