//! Answers on their way: they wait for the record, or for the kernel to have room.

use std::collections::VecDeque;

use echoic_core::event::ConversationId;
use echoic_wire::Route;
use tokio::time::Instant;

/// Answers that wait for the record (strict durability) or for the kernel, at most, and their bytes.
const UNSENT_MAX: usize = 256;
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// An answer on its way.
pub(super) struct Unsent {
    pub(super) route: Route,
    pub(super) conversation: ConversationId,
    pub(super) bytes: Vec<u8>,
    /// What has to be kept before it may leave.
    pub(super) epoch: u64,
}

/// All of them of one socket, in order.
pub(super) struct Outgoing {
    answers: VecDeque<Unsent>,
    bytes: usize,
    /// Since when the first of them could not leave.
    stalled_since: Instant,
}

impl Outgoing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            answers: VecDeque::new(),
            bytes: 0,
            stalled_since: now,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.answers.len() < UNSENT_MAX && self.bytes < UNSENT_BYTES_MAX
    }

    /// Whether one of them goes there.
    pub(super) fn is_for(&self, route: &Route) -> bool {
        self.answers.iter().any(|unsent| unsent.route == *route)
    }

    /// Since when the first could not leave; none if there is none.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        (!self.answers.is_empty()).then_some(self.stalled_since)
    }

    pub(super) fn push(&mut self, answer: Unsent, now: Instant) {
        if self.answers.is_empty() {
            self.stalled_since = now;
        }
        self.bytes += answer.bytes.len();
        self.answers.push_back(answer);
    }

    pub(super) fn front(&self) -> Option<&Unsent> {
        self.answers.front()
    }

    /// The first has left, or will not.
    pub(super) fn pop(&mut self, now: Instant) {
        if let Some(gone) = self.answers.pop_front() {
            self.bytes -= gone.bytes.len();
        }
        self.stalled_since = now;
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Unsent> {
        self.bytes = 0;
        self.answers.drain(..)
    }
}
