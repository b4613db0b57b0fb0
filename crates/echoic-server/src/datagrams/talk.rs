//! One peer's conversation over datagrams.

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

use crate::{session::Totals, tally::Tally};

/// A conversation: all that one peer says to one of our addresses without a long silence.
pub(super) struct Talk {
    pub(super) conversation: ConversationId,
    pub(super) journal: Journal,
    /// How it stands with the peer.
    pub(super) standing: Standing,
    /// When it was last heard, and under which time it is listed among the others.
    pub(super) received_at: Instant,
    pub(super) listed_at: Instant,
    handler: Box<dyn InlineHandler>,
    begun: bool,
    clock: Clock,
    tally: Tally,
    reason: Option<CloseReason>,
    totals: Arc<Totals>,
}

/// How it stands with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is answered.
    Welcome,
    /// It is heard, and what would be answered is withheld: it cannot have asked.
    Unanswerable,
    /// It is not among those that may call: not heard.
    Denied,
}

/// What comes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What is in the replies, which may be of no bytes.
    Reply,
    /// None.
    Silence,
}

impl Talk {
    pub(super) fn begin(
        opened: Opened,
        handler: Box<dyn InlineHandler>,
        standing: Standing,
        mut journal: Journal,
        totals: Arc<Totals>,
        now: Instant,
    ) -> Self {
        let conversation = opened.conversation;
        journal.opened(opened);
        Self {
            conversation,
            journal,
            standing,
            received_at: now,
            listed_at: now,
            handler,
            begun: false,
            clock: Clock::start(),
            tally: Tally::default(),
            reason: None,
            totals,
        }
    }

    /// Has the service answer `bytes`, which are a whole message. Nothing has opened the conversation but this: what
    /// the service says at its opening answers it. `None`: the service has a bug, and panicked.
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
        let begun = std::mem::replace(&mut self.begun, true);
        let handler = &mut self.handler;
        let then = catch_unwind(AssertUnwindSafe(|| {
            if !begun && handler.open(replies) == ControlFlow::Break(()) {
                return ControlFlow::Break(());
            }
            handler.answer(&run, replies)
        }));
        let says = replies.answered() > 0 || !replies.bytes().is_empty();
        then.ok()
            .map(|then| (if says { Answer::Reply } else { Answer::Silence }, then))
    }

    /// Puts down a message and what became of it; `said` is what left, or is about to.
    pub(super) fn record(&mut self, at: Instant, outcome: Outcome, heard: &[u8], said: &[u8]) {
        self.tally.received += heard.len() as u64;
        self.tally.exchanges += 1;
        if self.journal.is_active() {
            let told = RunMeta {
                conversation: self.conversation,
                n: self.tally.exchanges,
                at: self.clock.wall(at),
                latency_ns: at.elapsed().as_nanos() as u64,
                reads: 1,
                reply_offset: self.tally.produced,
            };
            self.journal.exchange(told, outcome, heard, said);
        }
        self.tally.produced += said.len() as u64;
    }

    /// So much of what was said has left.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.tally.sent += bytes as u64;
    }

    /// So much came that nobody listened to.
    pub(super) fn not_heard(&mut self, bytes: usize) {
        self.tally.discarded += bytes as u64;
    }

    pub(super) fn mark(&mut self, at: Instant, what: Marked) {
        self.journal.mark(self.clock.wall(at), what);
    }

    /// Ends it so.
    pub(super) fn end(mut self, reason: CloseReason) {
        self.reason = Some(reason);
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let reason = match self.standing {
            Standing::Denied => Some(CloseReason::Denied),
            _ => self.reason,
        };
        let ending = self.tally.ending(reason);
        self.totals
            .served
            .fetch_add(self.tally.exchanges, Ordering::Relaxed);
        self.journal.ended(self.clock.wall(Instant::now()), ending);
    }
}
