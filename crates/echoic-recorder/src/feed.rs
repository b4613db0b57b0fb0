//! What has been recorded, for eyes: terminals and pages that look on.
//!
//! A watcher has a queue of its own, bounded in bytes. One that does not keep up loses the oldest and is told how
//! many exchanges that were; it never slows the recorder, let alone the wire.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use echoic_core::event::Batch;

use crate::{lock::lock, standing::Standing};

/// What a watcher is behind by at most, in bytes of batches.
const BEHIND_BYTES_MAX: usize = 8 << 20;

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
    batches: VecDeque<Arc<Batch>>,
    /// How recording stands since it fails, or does no longer; only the latest is of interest.
    standing: Option<Standing>,
    bytes: usize,
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

/// Sees what is recorded, as it is recorded. Dropped, it costs nothing any more.
#[derive(Debug)]
pub struct Watcher(Arc<Queue>);

/// What a watcher is shown.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Events, in the order in which they were recorded.
    Batch(Arc<Batch>),
    /// The watcher was too slow: so many exchanges were passed over.
    Gap(u64),
    /// Nothing is being kept for the time being, or recording goes on after that.
    Standing(Standing),
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

    pub(crate) fn publish(&self, batches: &[Arc<Batch>]) {
        if !self.is_watched() {
            return;
        }
        let mut watchers = lock(&self.watchers);
        watchers.retain(|watcher| {
            let Some(queue) = watcher.upgrade() else {
                return false;
            };
            for batch in batches {
                queue.push(batch);
            }
            true
        });
        self.watched.store(watchers.len(), Ordering::Relaxed);
    }

    /// Tells how recording stands.
    pub(crate) fn stand(&self, standing: &Standing) {
        for queue in lock(&self.watchers).iter().filter_map(Weak::upgrade) {
            let mut waiting = lock(&queue.state);
            waiting.standing = Some(standing.clone());
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
    fn push(&self, batch: &Arc<Batch>) {
        let mut waiting = lock(&self.state);
        waiting.bytes += batch.size();
        waiting.batches.push_back(Arc::clone(batch));
        while waiting.bytes > BEHIND_BYTES_MAX && waiting.batches.len() > 1 {
            let Some(oldest) = waiting.batches.pop_front() else {
                break;
            };
            waiting.bytes -= oldest.size();
            waiting.missed += oldest.exchanges();
        }
        waiting.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Watcher {
    /// What comes next; none when the recorder has closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Seen> {
        poll_fn(|cx| {
            let mut waiting = lock(&self.0.state);
            if waiting.missed > 0 {
                return Poll::Ready(Some(Seen::Gap(std::mem::take(&mut waiting.missed))));
            }
            if let Some(batch) = waiting.batches.pop_front() {
                waiting.bytes -= batch.size();
                return Poll::Ready(Some(Seen::Batch(batch)));
            }
            if let Some(standing) = waiting.standing.take() {
                return Poll::Ready(Some(Seen::Standing(standing)));
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
    use echoic_core::event::{Outcome, Told};

    use super::*;

    fn batch(size: usize) -> Arc<Batch> {
        let mut batch = Batch::default();
        let told = Told {
            conversation: 1,
            n: 1,
            at: 0,
            latency_ns: 0,
            reads: 1,
            said_offset: 0,
        };
        batch.exchange(told, Outcome::Ok, &vec![0; size], b"");
        Arc::new(batch)
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_what_it_missed_and_then_goes_on() {
        let feed = Feed::default();
        let mut watcher = feed.watch();
        for _ in 0..5 {
            feed.publish(&[batch(3 << 20)]);
        }
        feed.close();
        assert!(matches!(watcher.next().await, Some(Seen::Gap(3))));
        assert!(matches!(watcher.next().await, Some(Seen::Batch(_))));
        assert!(matches!(watcher.next().await, Some(Seen::Batch(_))));
        assert!(watcher.next().await.is_none());
    }

    #[test]
    fn a_watcher_that_has_gone_is_forgotten() {
        let feed = Feed::default();
        drop(feed.watch());
        feed.publish(&[batch(1)]);
        assert!(!feed.is_watched());
    }
}
