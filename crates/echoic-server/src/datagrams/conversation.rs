//! A conversation over datagrams: one peer of one socket.

use std::ops::ControlFlow;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use echoic_core::{
    ending::CloseReason,
    event::{ConversationId, Marked, Opened, Outcome, RunMeta},
    framing::{FramingPair, Span},
    message::{Replies, Run},
    service::InlineHandler,
};
use echoic_recorder::{Clock, Journal};
use tokio::time::Instant;

use crate::{
    control::{CallNotes, OpenCount, Registration},
    tally::{Tally, Totals},
};

/// The datagrams that one peer sends to one local address without a long silence, and their replies.
pub(super) struct DatagramConversation {
    pub(super) id: ConversationId,
    pub(super) journal: Journal,
    /// Whether the peer is answered.
    pub(super) admission: Admission,
    /// When its last datagram arrived, and its key in the list of [`super::peers::Peers`].
    pub(super) received_at: Instant,
    pub(super) listed_at: Instant,
    handler: Box<dyn InlineHandler>,
    opened: bool,
    clock: Clock,
    tally: Tally,
    reason: Option<CloseReason>,
    pub(super) known: Known,
}

/// How the server knows a conversation.
pub(super) struct Known {
    /// `None` if it is rejected.
    pub(super) _open: Option<OpenCount>,
    pub(super) _registration: Registration,
    /// Where its socket calls are noted, if it is explained.
    pub(super) notes: Option<Arc<CallNotes>>,
    pub(super) totals: Arc<Totals>,
}

/// Whether a peer is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Its datagrams are answered.
    Admitted,
    /// Its datagrams are recorded and their replies withheld: the address cannot be a real client's.
    Unanswerable,
    /// The access list excludes it: its datagrams are discarded.
    Denied,
}

/// What the handler produced for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A reply, possibly of no bytes.
    Reply,
    /// No reply.
    Silence,
}

impl DatagramConversation {
    pub(super) fn begin(
        opened: Opened,
        handler: Box<dyn InlineHandler>,
        admission: Admission,
        mut journal: Journal,
        known: Known,
        now: Instant,
    ) -> Self {
        let id = opened.conversation;
        journal.record_opened(opened);
        Self {
            id,
            journal,
            admission,
            received_at: now,
            listed_at: now,
            handler,
            opened: false,
            clock: Clock::start(),
            tally: Tally::default(),
            reason: None,
            known,
        }
    }

    /// Answers `bytes`, a whole message. What the handler sends when the conversation opens is part of the first reply.
    /// Returns `None` if the handler panicked.
    pub(super) fn answer(
        &mut self,
        bytes: &[u8],
        replies: &mut Replies,
    ) -> Option<(Answer, ControlFlow<()>)> {
        let len = bytes.len() as u32;
        let spans = [Span {
            start: 0,
            body_start: 0,
            body_end: len,
            end: len,
        }];
        let run = Run::new(bytes, &spans, self.tally.exchanges);
        replies.clear(FramingPair::default());
        let opened = std::mem::replace(&mut self.opened, true);
        let handler = &mut self.handler;
        let then = catch_unwind(AssertUnwindSafe(|| {
            if !opened && handler.open(replies) == ControlFlow::Break(()) {
                return ControlFlow::Break(());
            }
            handler.answer(&run, replies)
        }));
        let has_reply = replies.answered() > 0 || !replies.bytes().is_empty();
        then.ok().map(|then| {
            (
                if has_reply {
                    Answer::Reply
                } else {
                    Answer::Silence
                },
                then,
            )
        })
    }

    /// Records a request with its outcome. `reply` was sent, or is queued.
    pub(super) fn record(&mut self, at: Instant, outcome: Outcome, request: &[u8], reply: &[u8]) {
        self.tally.received += request.len() as u64;
        self.tally.exchanges += 1;
        if self.journal.is_active() {
            let meta = RunMeta {
                conversation: self.id,
                n: self.tally.exchanges,
                at: self.clock.wall_time_at(at),
                latency_ns: at.elapsed().as_nanos() as u64,
                reads: 1,
                reply_offset: self.tally.produced,
            };
            self.journal.record_exchange(meta, outcome, request, reply);
        }
        self.tally.produced += reply.len() as u64;
    }

    /// Records a reply without a request.
    pub(super) fn record_unrequested(&mut self, at: Instant, reply: &[u8]) {
        self.tally.exchanges += 1;
        if self.journal.is_active() {
            let meta = RunMeta {
                conversation: self.id,
                n: self.tally.exchanges,
                at: self.clock.wall_time_at(at),
                latency_ns: at.elapsed().as_nanos() as u64,
                reads: 0,
                reply_offset: self.tally.produced,
            };
            self.journal.record_exchange(meta, Outcome::Ok, &[], reply);
        }
        self.tally.produced += reply.len() as u64;
    }

    /// Whether so many bytes more are not more than the peer has sent.
    pub(super) fn has_received(&self, bytes: usize) -> bool {
        self.tally.produced + bytes as u64 <= self.tally.received
    }

    /// Counts bytes that the kernel took.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.tally.sent += bytes as u64;
    }

    /// Counts bytes that are discarded.
    pub(super) fn discard(&mut self, bytes: usize) {
        self.tally.discarded += bytes as u64;
    }

    pub(super) fn mark(&mut self, at: Instant, what: Marked) {
        self.journal.record_mark(self.clock.wall_time_at(at), what);
    }

    /// Ends the conversation for `reason`.
    pub(super) fn end(mut self, reason: CloseReason) {
        self.reason = Some(reason);
    }
}

impl Drop for DatagramConversation {
    fn drop(&mut self) {
        let reason = match self.admission {
            Admission::Denied => Some(CloseReason::Denied),
            _ => self.reason,
        };
        let totals = &self.known.totals;
        let ending = self
            .tally
            .ending(reason.unwrap_or_else(|| totals.reason_of_drop()));
        totals
            .served
            .fetch_add(self.tally.exchanges, Ordering::Relaxed);
        totals
            .cut
            .fetch_add(u64::from(ending.reason.is_cut()), Ordering::Relaxed);
        self.journal
            .record_ended(self.clock.wall_time_at(Instant::now()), ending);
    }
}
