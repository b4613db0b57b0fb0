//! Replies that wait for their commit (strict durability) or for room in the kernel.

use std::collections::VecDeque;

use echoic_core::event::ConversationId;
use echoic_wire::Route;
use tokio::time::Instant;

/// Bounds of the queue, in replies and in bytes.
const UNSENT_MAX: usize = 256;
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// A queued reply.
pub(super) struct Unsent {
    pub(super) route: Route,
    pub(super) conversation: ConversationId,
    pub(super) bytes: Vec<u8>,
    /// The epoch that must be committed before it is sent.
    pub(super) epoch: u64,
}

/// The queue of one socket, in order.
#[derive(Default)]
pub(super) struct Outgoing {
    replies: VecDeque<Unsent>,
    bytes: usize,
    /// Since when the kernel has had no room for the first reply. Waiting for a commit is not a stall.
    stalled_since: Option<Instant>,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// Whether one more reply fits.
    pub(super) fn has_room(&self) -> bool {
        self.replies.len() < UNSENT_MAX && self.bytes < UNSENT_BYTES_MAX
    }

    /// Whether a queued reply belongs to this conversation.
    pub(super) fn is_of(&self, conversation: ConversationId) -> bool {
        let mut replies = self.replies.iter();
        replies.any(|unsent| unsent.conversation == conversation)
    }

    /// Since when the kernel has had no room for the first reply.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// Notes that the kernel has no room for the first reply.
    pub(super) fn stall(&mut self, now: Instant) {
        self.stalled_since.get_or_insert(now);
    }

    pub(super) fn push(&mut self, reply: Unsent) {
        self.bytes += reply.bytes.len();
        self.replies.push_back(reply);
    }

    pub(super) fn front(&self) -> Option<&Unsent> {
        self.replies.front()
    }

    /// Removes the first reply: it was sent, or will not be.
    pub(super) fn pop(&mut self) {
        if let Some(removed) = self.replies.pop_front() {
            self.bytes -= removed.bytes.len();
        }
        self.stalled_since = None;
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Unsent> {
        self.bytes = 0;
        self.stalled_since = None;
        self.replies.drain(..)
    }
}
