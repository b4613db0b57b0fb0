//! Presence: each process says who it is to whoever asks.
//!
//! A question goes to all processes of a NATS server ([`PROCESSES_SUBJECT`]), or to one of them. The answer is a [`Process`] in
//! JSON, so that processes of different versions understand each other.

mod found;
mod watch;

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, Message, Subscriber,
    jetstream::{Context, ContextBuilder},
};
use echoic_core::{
    event::{Micros, ServerId},
    process::{Process, StreamLag},
};
use futures_util::{StreamExt, TryStreamExt};
use tokio::{
    select,
    time::{Instant, timeout},
};

pub use self::found::{FoundProcesses, find_processes};
pub(crate) use self::watch::Watched;
use crate::{Connection, NatsError, stream::Names};

/// Where all processes answer who they are.
pub const PROCESSES_SUBJECT: &str = "echoic.processes";

/// Longest answer. One of a server with many endpoints has some KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Most processes that are told apart: more are counted alone.
const PROCESSES_MAX: usize = 1024;

/// Time for JetStream to tell what a stream holds. Whoever asked waits for it.
const LAG_TIMEOUT: Duration = Duration::from_millis(400);

/// What a stream holds is asked for so often at most, however many ask.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// Returns the subject of questions to one process.
fn own_subject(id: ServerId) -> String {
    format!("echoic.process.{id}.presence")
}

/// Reads an answer; `None` if it is none, or too long.
fn read(message: &Message) -> Option<Process> {
    let payload = &message.payload;
    if payload.len() > ANSWER_BYTES_MAX {
        return None;
    }
    Process::read(payload)
}

/// A process that is subscribed to questions.
#[derive(Debug)]
pub struct Present {
    client: Client,
    questions: Subscriber,
    own: Subscriber,
    stream: Option<AskedStream>,
    answered: Arc<AtomicU64>,
}

impl Present {
    /// Subscribes, so that others find the process with this id.
    pub async fn subscribe(connection: &Connection, id: ServerId) -> Result<Self, NatsError> {
        let client = connection.client.clone();
        let failed = |error: &dyn Display| NatsError::failed(connection.url(), error);
        let questions = client.subscribe(PROCESSES_SUBJECT).await;
        let questions = questions.map_err(|error| failed(&error))?;
        let own = client.subscribe(own_subject(id)).await;
        let own = own.map_err(|error| failed(&error))?;
        Ok(Self {
            client,
            questions,
            own,
            stream: None,
            answered: Arc::default(),
        })
    }

    /// Has the answers tell what the stream of this connection holds, too.
    #[must_use]
    pub fn with_stream(mut self, connection: &Connection) -> Self {
        self.stream = Some(AskedStream::of(connection));
        self
    }

    /// Counts the questions that were taken from the connection.
    pub fn answered(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.answered)
    }

    /// Answers with what `describe` returns, until the client is closed or this is dropped.
    pub async fn answer(mut self, describe: impl Fn() -> Process) {
        loop {
            let question = select! {
                question = self.questions.next() => question,
                question = self.own.next() => question,
            };
            let Some(question) = question else {
                return;
            };
            self.answered.fetch_add(1, Ordering::Relaxed);
            let Some(reply) = question.reply else {
                continue;
            };
            let mut process = describe();
            if let Some(stream) = &mut self.stream {
                process.stream = Some(stream.lag().await);
            }
            if let Err(error) = self.client.publish(reply, process.write().into()).await {
                tracing::debug!("who this is was not sent: {error}");
            }
        }
    }
}

/// A stream, with what it held when it was last asked.
#[derive(Debug)]
struct AskedStream {
    context: Context,
    name: String,
    last: Option<(Instant, StreamLag)>,
}

impl AskedStream {
    fn of(connection: &Connection) -> Self {
        Self {
            context: ContextBuilder::new()
                .timeout(LAG_TIMEOUT)
                .build(connection.client.clone()),
            name: connection.url().name().to_owned(),
            last: None,
        }
    }

    /// Returns what the stream holds, as of a moment ago. Without an answer of JetStream it has its name alone.
    async fn lag(&mut self) -> StreamLag {
        match &self.last {
            Some((at, lag)) if at.elapsed() < LAG_EVERY => lag.clone(),
            _ => {
                let asked = timeout(LAG_TIMEOUT, self.ask()).await;
                let lag = asked.ok().flatten().unwrap_or_else(|| StreamLag {
                    name: self.name.clone(),
                    ..StreamLag::default()
                });
                self.last = Some((Instant::now(), lag.clone()));
                lag
            }
        }
    }

    async fn ask(&self) -> Option<StreamLag> {
        let stream = self.context.get_stream_no_info(&self.name).await.ok()?;
        let lanes = Names::of(&self.name).all_batches();
        let held = stream.info_with_subjects(lanes).await.ok()?;
        let state = held.info.state.clone();
        // What is acknowledged is removed: what the stream holds in its lanes is not stored.
        let counts: Vec<(String, usize)> = held.try_collect().await.ok()?;
        let pending = counts.iter().map(|(_, count)| *count as u64).sum();
        let oldest = state.first_timestamp.unix_timestamp_nanos() / 1000;
        Some(StreamLag {
            name: self.name.clone(),
            pending: Some(pending),
            bytes: Some(state.bytes),
            oldest_us: (pending > 0).then(|| Micros::try_from(oldest).unwrap_or(0)),
        })
    }
}
