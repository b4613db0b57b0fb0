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
#[derive(Default)]
pub(super) struct Outgoing {
    answers: VecDeque<Unsent>,
    bytes: usize,
    /// Since when the kernel has had no room for the first of them. One that waits for the record is not stalled.
    stalled_since: Option<Instant>,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.answers.len() < UNSENT_MAX && self.bytes < UNSENT_BYTES_MAX
    }

    /// Whether one of them is of this conversation.
    pub(super) fn is_of(&self, conversation: ConversationId) -> bool {
        let mut answers = self.answers.iter();
        answers.any(|unsent| unsent.conversation == conversation)
    }

    /// Since when the kernel has had no room for the first.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// The kernel has no room for the first.
    pub(super) fn stall(&mut self, now: Instant) {
        self.stalled_since.get_or_insert(now);
    }

    pub(super) fn push(&mut self, answer: Unsent) {
        self.bytes += answer.bytes.len();
        self.answers.push_back(answer);
    }

    pub(super) fn front(&self) -> Option<&Unsent> {
        self.answers.front()
    }

    /// The first has left, or will not.
    pub(super) fn pop(&mut self) {
        if let Some(gone) = self.answers.pop_front() {
            self.bytes -= gone.bytes.len();
        }
        self.stalled_since = None;
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Unsent> {
        self.bytes = 0;
        self.stalled_since = None;
        self.answers.drain(..)
    }
}
