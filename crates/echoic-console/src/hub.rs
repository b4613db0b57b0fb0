//! Live events for the subscribers of the event stream.
//!
//! One task watches the recorder, or polls the store of another process, while there is a subscriber; without one nothing runs.
//! It composes each event once for all subscribers of a query. A subscriber that reads too slowly loses events and gets a gap
//! instead; it delays nobody.

mod changes;
mod group;
mod live;
mod message;
mod poll;
mod queue;
mod reading;
mod resume;
mod second;
mod task;
mod tick;

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use echoic_core::{
    control::{Control, EndpointStatus},
    event::{ConversationId, ExchangeId},
    filter::Filter,
    store::Store,
};
use echoic_recorder::Recorder;
use serde_json::json;
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::timeout,
};

use self::{queue::Message, queue::Queue, task::Task};
pub(crate) use self::{queue::Subscription, resume::Resume};

/// Most subscribers at a time.
const SUBSCRIBERS_MAX: usize = 64;

/// Most events of requests that wait for the task.
const MESSAGES_MAX: usize = 1000;

/// Time for a subscriber to join: the store is read for it.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// Live events. It works only while there is a subscriber.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Shared>);

/// What the hub and its task share.
struct Shared {
    store: Arc<dyn Store>,
    recorder: Option<Recorder>,
    control: Option<Arc<dyn Control>>,
    inbox: Mutex<Inbox>,
    /// Wakes the task for its inbox.
    wake: Notify,
    places: Arc<Semaphore>,
}

/// What waits for the task.
#[derive(Default)]
struct Inbox {
    joining: Vec<Joining>,
    messages: Vec<Message>,
    /// Whether an endpoint may have another state.
    endpoints_changed: bool,
    /// Whether the next conversation is to be explained.
    explain: bool,
    is_running: bool,
    is_closed: bool,
}

/// A subscriber that is not yet in a group.
struct Joining {
    query: String,
    filter: Filter,
    queue: Arc<Queue>,
    /// Gets the last exchange that the live events do not have.
    joined: oneshot::Sender<ExchangeId>,
}

/// Why a subscriber could not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotJoined {
    /// There are too many.
    Full,
    /// The store does not answer, or the console ends.
    Failed,
}

impl Hub {
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        recorder: Option<&Recorder>,
        control: Option<&Arc<dyn Control>>,
    ) -> Self {
        Self(Arc::new(Shared {
            store: Arc::clone(store),
            recorder: recorder.cloned(),
            control: control.cloned(),
            inbox: Mutex::default(),
            wake: Notify::new(),
            places: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)),
        }))
    }

    /// Subscribes to the exchanges that `filter` selects and to all other events. Returns the subscription and the last exchange
    /// that it does not have.
    pub(crate) async fn subscribe(
        &self,
        query: &str,
        filter: Filter,
    ) -> Result<(Subscription, ExchangeId), NotJoined> {
        let places = Arc::clone(&self.0.places);
        let place = places.try_acquire_owned().map_err(|_| NotJoined::Full)?;
        let queue = Arc::new(Queue::default());
        let subscription = Subscription::new(Arc::clone(&queue), place);
        let (joined, position) = oneshot::channel();
        {
            let mut inbox = self.0.inbox();
            if inbox.is_closed {
                return Err(NotJoined::Failed);
            }
            inbox.joining.push(Joining {
                query: query.trim().to_owned(),
                filter,
                queue,
                joined,
            });
            if !mem::replace(&mut inbox.is_running, true) {
                tokio::spawn(Task::new(Arc::clone(&self.0)).run());
            }
        }
        self.0.wake.notify_one();
        match timeout(JOIN_WITHIN, position).await {
            Ok(Ok(position)) => Ok((subscription, position)),
            _ => Err(NotJoined::Failed),
        }
    }

    /// Returns the number of open streams.
    pub(crate) fn subscribers(&self) -> u64 {
        (SUBSCRIBERS_MAX - self.0.places.available_permits()) as u64
    }

    /// Reports that these exchanges, or this conversation, have other labels.
    pub(crate) fn labels_changed(
        &self,
        exchanges: &[ExchangeId],
        conversation: Option<ConversationId>,
    ) {
        let data = json!({"exchanges": exchanges, "conversation": conversation});
        self.send(|| message::needed("labels", &data));
    }

    /// Reports that an endpoint has another state.
    pub(crate) fn endpoint_changed(&self, _: &EndpointStatus) {
        self.0.inbox().endpoints_changed = true;
        self.0.wake.notify_one();
    }

    /// Reports that the next conversation that opens is explained.
    pub(crate) fn explain_armed(&self) {
        self.0.inbox().explain = true;
        self.0.wake.notify_one();
    }

    fn send(&self, message: impl FnOnce() -> Message) {
        let mut inbox = self.0.inbox();
        if inbox.is_running && inbox.messages.len() < MESSAGES_MAX {
            inbox.messages.push(message());
            self.0.wake.notify_one();
        }
    }

    /// Ends all streams with `bye`.
    pub(crate) fn close(&self) {
        self.0.inbox().is_closed = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
