//! Signs of life: a server answers while it lives, and a keeper ends the conversations of one that does not.
//!
//! NATS itself says at once that nobody listens at a subject, so a server that is only slow or suspended is not taken for dead.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{Client, RequestErrorKind};
use bytes::Bytes;
use echoic_core::{event::ServerId, store::Store};
use futures_util::StreamExt;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::stream::{ANSWER_TIMEOUT, RecordStream};

/// Interval of asking servers with open conversations for a sign of life.
const ASK_EVERY: Duration = Duration::from_secs(4);

/// Times in a row without anybody at the subject of a server until it is dead. It may only have lost its connection, which it
/// makes again within a second.
const SILENT_MAX: u32 = 3;

/// Answers for a server until this is dropped.
#[derive(Debug)]
pub(crate) struct Alive(JoinHandle<()>);

impl Alive {
    /// Begins to answer. If that is not permitted, an error is logged, and a keeper takes the server for dead when it records
    /// nothing.
    pub(crate) async fn start(client: &Client, subject: String) -> Option<Self> {
        let asked = client.subscribe(subject).await;
        let mut questions = asked.inspect_err(|error| tracing::warn!("{error}")).ok()?;
        let client = client.clone();
        let answering = async move {
            while let Some(question) = questions.next().await {
                if let Some(reply) = question.reply {
                    let _ = client.publish(reply, Bytes::new()).await;
                }
            }
        };
        Some(Self(tokio::spawn(answering)))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends the conversations of servers that have died, without end. Nothing is ended while the stream has batches of the server.
pub(crate) async fn end_dead(stream: &RecordStream, store: Arc<dyn Store>) {
    let mut silent: HashMap<ServerId, u32> = HashMap::new();
    loop {
        sleep(ASK_EVERY).await;
        let Ok(servers) = store.open_servers().await else {
            continue;
        };
        silent.retain(|server, _| servers.contains(server));
        for server in servers {
            if !is_silent(stream, server).await {
                silent.remove(&server);
                continue;
            }
            let times = silent.entry(server).or_default();
            *times += 1;
            if *times < SILENT_MAX || !stream.is_written(server).await.unwrap_or(false) {
                continue;
            }
            match store.end_server(server).await {
                Ok(ended) => {
                    silent.remove(&server);
                    tracing::warn!("server {server} has died: {ended} conversations are ended");
                }
                Err(error) => tracing::debug!("server {server} has died: {error}"),
            }
        }
    }
}

/// Whether NATS knows of nobody at the subject of a server. Without an answer that is not known.
async fn is_silent(stream: &RecordStream, server: ServerId) -> bool {
    let subject = stream.names.alive(server);
    let asked = stream.connection.client.request(subject, Bytes::new());
    match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Err(error)) => error.kind() == RequestErrorKind::NoResponders,
        Ok(Ok(_)) | Err(_) => false,
    }
}
