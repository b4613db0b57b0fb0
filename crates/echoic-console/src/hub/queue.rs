//! The queue of a subscriber, bounded in bytes.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use axum::body::Bytes;
use echoic_core::event::ExchangeId;
use tokio::sync::OwnedSemaphorePermit;

use super::message;

/// Most bytes that wait for a subscriber. Beyond, events are dropped until it has read half of them.
const BYTES_MAX: usize = 256 << 10;

/// Events that wait for a subscriber.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Bytes>,
    bytes: usize,
    /// Whether events are dropped.
    full: bool,
    /// Events dropped since the last one that was queued.
    missed: Option<Missed>,
    /// Whether no more events come.
    closed: bool,
    /// Whether the subscriber is gone.
    gone: bool,
    waker: Option<Waker>,
}

/// Exchanges that a subscriber did not get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    /// Ids of the first and the last; `None` if they are not in the record.
    pub(super) ids: Option<(ExchangeId, ExchangeId)>,
    /// Their number. 0 if only other events were dropped.
    pub(super) exchanges: u64,
}

impl Missed {
    fn add(&mut self, other: Self) {
        self.exchanges += other.exchanges;
        self.ids = match (self.ids, other.ids) {
            (Some((from, _)), Some((_, to))) => Some((from, to)),
            (ids, None) | (None, ids) => ids,
        };
    }
}

/// An event as it is sent, and what a subscriber misses without it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) text: Bytes,
    /// `None` if nothing: a later event of the kind replaces it.
    pub(super) missed: Option<Missed>,
}

impl Queue {
    /// Whether an event would be queued now.
    pub(super) fn has_room(&self) -> bool {
        !self.state().full
    }

    /// Whether the subscriber is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// Queues an event if there is room.
    pub(super) fn push(&self, message: &Message) {
        let mut state = self.state();
        if state.gone || state.closed {
            return;
        }
        if state.bytes > 0 && state.bytes + message.text.len() > BYTES_MAX {
            state.full = true;
        }
        if state.full {
            if let Some(missed) = message.missed {
                state.missed.get_or_insert_default().add(missed);
            }
            return;
        }
        if let Some(missed) = state.missed.take() {
            state.queue(message::gap(missed).text);
        }
        state.queue(message.text.clone());
    }

    /// Counts exchanges that are dropped before they become an event.
    pub(super) fn miss(&self, missed: Missed) {
        self.state().missed.get_or_insert_default().add(missed);
    }

    /// Queues the last event; then the stream ends.
    pub(super) fn close(&self, last: Bytes) {
        let mut state = self.state();
        state.full = false;
        if let Some(missed) = state.missed.take() {
            state.queue(message::gap(missed).text);
        }
        state.queue(last);
        state.closed = true;
    }

    /// Ends the stream after what is queued.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waker.take().into_iter().for_each(Waker::wake);
    }

    fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state();
        if let Some(event) = state.events.pop_front() {
            state.bytes -= event.len();
            if state.bytes <= BYTES_MAX / 2 {
                state.full = false;
            }
            return Poll::Ready(Some(event));
        }
        if let Some(missed) = state.missed.take() {
            return Poll::Ready(Some(message::gap(missed).text));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, event: Bytes) {
        self.bytes += event.len();
        self.events.push_back(event);
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// The events of one subscriber. Dropping it ends the subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    queue: Arc<Queue>,
    _place: OwnedSemaphorePermit,
}

impl Subscription {
    pub(super) fn new(queue: Arc<Queue>, place: OwnedSemaphorePermit) -> Self {
        Self {
            queue,
            _place: place,
        }
    }

    /// Returns the next event as it is sent; `None` at the end.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        self.queue.poll_next(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.gone = true;
        state.bytes = 0;
        drop(mem::take(&mut state.events));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: ExchangeId, bytes: usize) -> Message {
        Message {
            text: Bytes::from(vec![b'x'; bytes]),
            missed: Some(Missed {
                ids: Some((id, id)),
                exchanges: 1,
            }),
        }
    }

    fn next(queue: &Queue) -> Option<Bytes> {
        match queue.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next,
            Poll::Pending => None,
        }
    }

    #[test]
    fn full_queue_drops_events_and_reports_them_in_their_order() {
        let queue = Queue::default();
        for id in 1..=10 {
            queue.push(&batch(id, 64 << 10));
        }
        assert!(!queue.has_room());
        let before: Vec<_> = (0..4).map(|_| next(&queue).unwrap().len()).collect();
        assert_eq!(before, [64 << 10; 4]);
        assert!(queue.has_room());
        queue.push(&batch(11, 10));
        let gap = next(&queue).unwrap();
        let gap = str::from_utf8(&gap).unwrap();
        assert!(gap.contains("event: gap\n"), "{gap}");
        assert!(gap.contains(r#"{"from":5,"to":10,"n":6}"#), "{gap}");
        assert_eq!(next(&queue).unwrap().len(), 10);
        assert_eq!(next(&queue), None);
    }

    #[test]
    fn gap_is_reported_without_a_later_event() {
        let queue = Queue::default();
        for id in 1..=5 {
            queue.push(&batch(id, 100 << 10));
        }
        assert_eq!(next(&queue).unwrap().len(), 100 << 10);
        assert_eq!(next(&queue).unwrap().len(), 100 << 10);
        assert!(
            next(&queue)
                .unwrap()
                .ends_with(b"{\"from\":3,\"to\":5,\"n\":3}\n\n")
        );
        assert_eq!(next(&queue), None);
    }

    #[test]
    fn closed_queue_ends_after_its_last_event() {
        let queue = Queue::default();
        queue.close(Bytes::from_static(b"bye"));
        assert_eq!(next(&queue).as_deref(), Some(&b"bye"[..]));
        assert_eq!(
            queue.poll_next(&Context::from_waker(Waker::noop())),
            Poll::Ready(None)
        );
    }
}
