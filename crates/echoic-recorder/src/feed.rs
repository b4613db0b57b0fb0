//! The live feed: publishes recorded events to watchers.
//!
//! Each watcher has its own queue, bounded in bytes. A watcher that is too slow loses the oldest batches and receives the
//! number of exchanges lost. It never delays the recorder or a conversation.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use echoic_core::event::{Batch, ConversationId, Ended, Event, ExchangeId, Opened, ServerInfo};

use crate::{lock::lock, status::RecorderStatus};

/// The queues of all watchers.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    watchers: Mutex<Vec<Weak<Queue>>>,
    watched: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    batches: VecDeque<(ExchangeId, Arc<Batch>)>,
    /// Status since the store last failed or recovered, if not yet received. Only the latest counts.
    status: Option<RecorderStatus>,
    bytes: usize,
    skipped: Skipped,
    closed: bool,
    waker: Option<Waker>,
}

/// Summary of the batches dropped from a queue. Bounded by the number of conversations that are open, or were when the
/// watcher last received something.
#[derive(Debug, Default)]
struct Skipped {
    exchanges: u64,
    server: Arc<ServerInfo>,
    opened: BTreeMap<ConversationId, Opened>,
    ended: Vec<Ended>,
}

/// Receives recorded events live. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Watcher(Arc<Queue>);

/// An item that a watcher receives.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Events, in the order in which they were recorded.
    Batch {
        /// The id of its first exchange; 0 if it is not committed, or not yet.
        first_id: ExchangeId,
        /// The events.
        batch: Arc<Batch>,
    },
    /// Events were dropped from the queue, or never recorded.
    Gap(Missed),
    /// The store fails, or has recovered.
    RecorderStatus(RecorderStatus),
}

/// Summary of the events that a watcher did not receive, because it or the store was too slow.
#[derive(Clone, Debug, Default)]
pub struct Missed {
    /// Number of exchanges.
    pub exchanges: u64,
    /// The server of the events that follow.
    pub server: Arc<ServerInfo>,
    /// Conversations that began meanwhile and are still open; later events may belong to them.
    pub opened: Vec<Opened>,
    /// Ends of conversations whose opening the watcher has received.
    pub ended: Vec<Ended>,
}

impl Feed {
    pub(crate) fn watch(&self) -> Watcher {
        let queue = Arc::new(Queue::default());
        let mut watchers = lock(&self.watchers);
        watchers.push(Arc::downgrade(&queue));
        self.watched.store(watchers.len(), Ordering::Relaxed);
        Watcher(queue)
    }

    /// Whether there is a watcher.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    /// Queues batches for all watchers, each with the id of its first exchange.
    pub(crate) fn publish<'a>(
        &self,
        batches: &(impl Iterator<Item = (ExchangeId, &'a Arc<Batch>)> + Clone),
    ) {
        if !self.is_watched() {
            return;
        }
        let mut watchers = lock(&self.watchers);
        watchers.retain(|watcher| {
            let Some(queue) = watcher.upgrade() else {
                return false;
            };
            for (first_id, batch) in batches.clone() {
                queue.push(first_id, batch);
            }
            true
        });
        self.watched.store(watchers.len(), Ordering::Relaxed);
    }

    /// Reports exchanges to watchers that are in no batch, since the recorder had no room for them.
    pub(crate) fn add_lost(&self, exchanges: u64) {
        if exchanges == 0 || !self.is_watched() {
            return;
        }
        for queue in lock(&self.watchers).iter().filter_map(Weak::upgrade) {
            let mut state = lock(&queue.state);
            state.skipped.exchanges += exchanges;
            state.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Sends the status to all watchers.
    pub(crate) fn publish_status(&self, status: &RecorderStatus) {
        for queue in lock(&self.watchers).iter().filter_map(Weak::upgrade) {
            let mut state = lock(&queue.state);
            state.status = Some(status.clone());
            state.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Ends the feed: watchers receive what is queued, and then the end.
    pub(crate) fn close(&self) {
        for queue in lock(&self.watchers).iter().filter_map(Weak::upgrade) {
            let mut state = lock(&queue.state);
            state.closed = true;
            state.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Queue {
    fn push(&self, first_id: ExchangeId, batch: &Arc<Batch>) {
        let mut state = lock(&self.state);
        state.bytes += batch.size();
        state.batches.push_back((first_id, Arc::clone(batch)));
        while state.bytes > Watcher::QUEUE_BYTES_MAX && state.batches.len() > 1 {
            let Some((_, oldest)) = state.batches.pop_front() else {
                break;
            };
            state.bytes -= oldest.size();
            state.skipped.add(&oldest);
        }
        state.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Skipped {
    fn add(&mut self, batch: &Batch) {
        self.exchanges += batch.exchanges();
        self.server = Arc::clone(&batch.server);
        for event in &batch.events {
            match event {
                Event::Opened(opened) => {
                    self.opened.insert(opened.conversation, opened.clone());
                }
                Event::Ended(ended) if self.opened.remove(&ended.conversation).is_none() => {
                    self.ended.push(ended.clone());
                }
                Event::Ended(_) | Event::Run(_) | Event::Mark(_) => {}
            }
        }
    }

    fn take(&mut self) -> Option<Missed> {
        if self.exchanges == 0 && self.opened.is_empty() && self.ended.is_empty() {
            return None;
        }
        Some(Missed {
            exchanges: mem::take(&mut self.exchanges),
            server: Arc::clone(&self.server),
            opened: mem::take(&mut self.opened).into_values().collect(),
            ended: mem::take(&mut self.ended),
        })
    }
}

impl Watcher {
    /// Maximum bytes of batches queued for a watcher: half a second of 64 connections at full speed, so that a short stall
    /// of the watcher costs no events.
    pub const QUEUE_BYTES_MAX: usize = 32 << 20;

    /// Receives the next item; `None` once the recorder has closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Seen> {
        poll_fn(|cx| {
            let mut state = lock(&self.0.state);
            if let Some(missed) = state.skipped.take() {
                return Poll::Ready(Some(Seen::Gap(missed)));
            }
            if let Some((first_id, batch)) = state.batches.pop_front() {
                state.bytes -= batch.size();
                return Poll::Ready(Some(Seen::Batch { first_id, batch }));
            }
            if let Some(status) = state.status.take() {
                return Poll::Ready(Some(Seen::RecorderStatus(status)));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::{
        ending::{CloseReason, Ending},
        event::{Address, EndpointInfo, Outcome, Protocol, Role, RunMeta},
        framing::Framing,
    };

    use super::*;

    /// One exchange of `size` bytes.
    fn batch(size: usize) -> Batch {
        let mut batch = Batch::default();
        let meta = RunMeta {
            conversation: 1,
            n: 1,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        batch.push_exchange(meta, Outcome::Ok, &vec![0; size], b"");
        batch
    }

    fn publish(feed: &Feed, batch: Batch) {
        feed.publish(&[(1, &Arc::new(batch))].into_iter());
    }

    const HALF: usize = Watcher::QUEUE_BYTES_MAX / 2 - (1 << 10);

    fn opened(conversation: ConversationId) -> Event {
        let address = Address::Unix(None);
        let endpoint_info = EndpointInfo {
            name: "unix".to_owned(),
            proto: Protocol::Unix,
            service: "upper".to_owned(),
            framing: Framing::Line.into(),
        };
        Event::Opened(Opened {
            conversation,
            at: 0,
            remote: address.clone(),
            local: address,
            role: Role::Server,
            endpoint_info: Arc::new(endpoint_info),
            tls: None,
        })
    }

    fn ended(conversation: ConversationId) -> Event {
        Event::Ended(Ended {
            conversation,
            at: 0,
            ending: Ending {
                reason: CloseReason::PeerClosed,
                received: 0,
                sent: 0,
                unsent: 0,
                discarded: 0,
                left_over: None,
            },
        })
    }

    #[tokio::test]
    async fn slow_watcher_gets_a_gap_and_continues() {
        let feed = Feed::default();
        let mut watcher = feed.watch();
        for _ in 0..5 {
            publish(&feed, batch(HALF));
        }
        feed.add_lost(4);
        feed.close();
        let missed = watcher.next().await;
        assert!(matches!(
            missed,
            Some(Seen::Gap(Missed { exchanges: 7, .. }))
        ));
        assert!(matches!(watcher.next().await, Some(Seen::Batch { .. })));
        assert!(matches!(watcher.next().await, Some(Seen::Batch { .. })));
        assert!(watcher.next().await.is_none());
    }

    /// Without their openings the watcher could not show later events of these conversations.
    #[tokio::test]
    async fn slow_watcher_gets_the_open_conversations() {
        let feed = Feed::default();
        let mut watcher = feed.watch();
        let mut first = batch(HALF);
        first.events.extend([2, 3].map(opened));
        first.events.extend([1, 3].map(ended));
        publish(&feed, first);
        for _ in 0..2 {
            publish(&feed, batch(HALF));
        }
        let Some(Seen::Gap(missed)) = watcher.next().await else {
            panic!("nothing was missed");
        };
        let opened: Vec<_> = missed
            .opened
            .iter()
            .map(|event| event.conversation)
            .collect();
        let ended: Vec<_> = missed
            .ended
            .iter()
            .map(|event| event.conversation)
            .collect();
        assert_eq!((missed.exchanges, opened, ended), (1, vec![2], vec![1]));
    }

    #[test]
    fn dropped_watcher_is_removed() {
        let feed = Feed::default();
        drop(feed.watch());
        publish(&feed, batch(1));
        assert!(!feed.is_watched());
    }
}
