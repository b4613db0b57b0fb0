//! Answers to our own questions: one subscription for all, and a table of those that are waited for.
//!
//! The client of NATS has the same (`Client::request`), but it remembers a question that nobody waits for any more until its
//! answer comes, which may be never. Here its entry goes with the future that waits.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_nats::{Client, Message, SubscribeError};
use futures_util::StreamExt;
use tokio::{sync::oneshot, task::JoinHandle};

/// Where answers arrive.
#[derive(Debug)]
pub(crate) struct Inbox {
    client: Client,
    /// Subject of the answers, without their number.
    prefix: String,
    waiting: Arc<Waiting>,
    receiving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: AtomicU64,
    senders: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
}

impl Waiting {
    fn senders(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an answer to who waits for it, if anybody still does.
    fn deliver(&self, message: Message) {
        let number = message.subject.rsplit('.').next();
        let number = number.and_then(|number| number.parse().ok());
        let sender = number.and_then(|number: u64| self.senders().remove(&number));
        if let Some(sender) = sender {
            let _ = sender.send(message);
        }
    }
}

/// Removes the entry of a question.
struct Entry<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.waiting.senders().remove(&self.number);
    }
}

impl Inbox {
    /// Subscribes to a subject of its own.
    pub(crate) async fn open(client: &Client) -> Result<Self, SubscribeError> {
        let prefix = client.new_inbox();
        let mut answers = client.subscribe(format!("{prefix}.*")).await?;
        let waiting = Arc::<Waiting>::default();
        let delivering = Arc::clone(&waiting);
        let receiving = tokio::spawn(async move {
            while let Some(message) = answers.next().await {
                delivering.deliver(message);
            }
        });
        Ok(Self {
            client: client.clone(),
            prefix,
            waiting,
            receiving,
        })
    }

    /// Sends a question, and waits without end for the answer. `None` if it cannot be sent.
    pub(crate) async fn request(&self, subject: &str, payload: Vec<u8>) -> Option<Message> {
        let number = self.waiting.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.senders().insert(number, sender);
        let _entry = Entry {
            waiting: &self.waiting,
            number,
        };
        let (subject, reply) = (subject.to_owned(), format!("{}.{number}", self.prefix));
        let sent = self
            .client
            .publish_with_reply(subject, reply, payload.into());
        sent.await.ok()?;
        answer.await.ok()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}
