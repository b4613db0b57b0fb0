//! The live feed: what has been recorded, for terminals and pages that look on.
//!
//! A watcher has a queue of its own, bounded in bytes. One that does not keep up loses the oldest batches and is told
//! how many exchanges that were; it never slows the recorder, let alone the wire.

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

use echoic_core::event::{Batch, ConversationId, Ended, Event, ExchangeId, Opened, Server};

use crate::{lock::lock, status::RecorderStatus};

/// Hands batches to whoever watches.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    watchers: Mutex<Vec<Weak<Queue>>>,
    watched: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<(ExchangeId, Arc<Batch>)>,
    /// How recording stands since it fails, or does no longer; only the latest is of interest.
    status: Option<RecorderStatus>,
    bytes: usize,
    missed: Skipped,
    closed: bool,
    waker: Option<Waker>,
}

/// What has been dropped from a queue. Bounded by the number of conversations that are open, or were when the watcher
/// last kept up.
#[derive(Debug, Default)]
struct Skipped {
    exchanges: u64,
    server: Arc<Server>,
    opened: BTreeMap<ConversationId, Opened>,
    ended: Vec<Ended>,
}

/// Sees what is recorded, as it is recorded. Dropped, it costs nothing any more.
#[derive(Debug)]
pub struct Watcher(Arc<Queue>);

/// What a watcher is shown.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Events, in the order in which they were recorded.
    Batch {
        /// The id of its first exchange; 0 if it is not stored (yet).
        first_id: ExchangeId,
        /// The events.
        batch: Arc<Batch>,
    },
    /// Some were passed over.
    Gap(Missed),
    /// Nothing is being kept for the time being, or recording goes on after that.
    RecorderStatus(RecorderStatus),
}

/// What a watcher was not shown because it was too slow, or the recorder was.
#[derive(Clone, Debug, Default)]
pub struct Missed {
    /// How many exchanges.
    pub exchanges: u64,
    /// Who recorded what follows.
    pub server: Arc<Server>,
    /// Conversations that began meanwhile and are open: events that follow may be theirs.
    pub opened: Vec<Opened>,
    /// Ends of conversations that the watcher was told of before.
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

    /// Whether anybody watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    /// Shows batches, each with the id of its first exchange.
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

    /// So many exchanges are in no batch: the recorder had no room for them.
    pub(crate) fn miss(&self, exchanges: u64) {
        if exchanges == 0 || !self.is_watched() {
            return;
        }
        for queue in lock(&self.watchers).iter().filter_map(Weak::upgrade) {
            let mut waiting = lock(&queue.state);
            waiting.missed.exchanges += exchanges;
            waiting.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Tells how recording stands.
    pub(crate) fn stand(&self, status: &RecorderStatus) {
        for queue in lock(&self.watchers).iter().filter_map(Weak::upgrade) {
            let mut waiting = lock(&queue.state);
            waiting.status = Some(status.clone());
            waiting.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        for queue in lock(&self.watchers).iter().filter_map(Weak::upgrade) {
            let mut waiting = lock(&queue.state);
            waiting.closed = true;
            waiting.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Queue {
    fn push(&self, first_id: ExchangeId, batch: &Arc<Batch>) {
        let mut waiting = lock(&self.state);
        waiting.bytes += batch.size();
        waiting.batches.push_back((first_id, Arc::clone(batch)));
        while waiting.bytes > Watcher::BEHIND_BYTES_MAX && waiting.batches.len() > 1 {
            let Some((_, oldest)) = waiting.batches.pop_front() else {
                break;
            };
            waiting.bytes -= oldest.size();
            waiting.missed.skip(&oldest);
        }
        waiting.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Skipped {
    fn skip(&mut self, batch: &Batch) {
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
    /// What a watcher is behind by at most, in bytes of batches: half a second of 64 connections at full speed, so that
    /// a disk that takes nothing for a moment costs no events.
    pub const BEHIND_BYTES_MAX: usize = 32 << 20;

    /// What comes next; none when the recorder has closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Seen> {
        poll_fn(|cx| {
            let mut waiting = lock(&self.0.state);
            if let Some(missed) = waiting.missed.take() {
                return Poll::Ready(Some(Seen::Gap(missed)));
            }
            if let Some((first_id, batch)) = waiting.batches.pop_front() {
                waiting.bytes -= batch.size();
                return Poll::Ready(Some(Seen::Batch { first_id, batch }));
            }
            if let Some(status) = waiting.status.take() {
                return Poll::Ready(Some(Seen::RecorderStatus(status)));
            }
            if waiting.closed {
                return Poll::Ready(None);
            }
            waiting.waker = Some(cx.waker().clone());
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
        let told = RunMeta {
            conversation: 1,
            n: 1,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        batch.exchange(told, Outcome::Ok, &vec![0; size], b"");
        batch
    }

    fn publish(feed: &Feed, batch: Batch) {
        feed.publish(&[(1, &Arc::new(batch))].into_iter());
    }

    const HALF: usize = Watcher::BEHIND_BYTES_MAX / 2 - (1 << 10);

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
        feed.miss(4);
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

    /// Else what they say later would be of a conversation that the watcher never heard of, and would be shown nowhere.
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
        let opened: Vec<_> = missed.opened.iter().map(|told| told.conversation).collect();
        let ended: Vec<_> = missed.ended.iter().map(|told| told.conversation).collect();
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
