//! What a service apart says, when it says it: it is heard beside the peer, and what it says goes the same way out.

use std::{
    ops::ControlFlow,
    task::{Context, Poll, ready},
};

use echoic_core::{
    ending::CloseReason,
    event::{Outcome, RunMeta},
    framing::Framing,
};
use tokio::time::Instant;

use super::{ActiveHandler, Session, Turn, broken};
use crate::apart::{HandlerOutput, Pending, Reply};

/// What a service apart may have said beyond what the peer has taken, in bytes; then it has to wait.
const UNSENT_MAX: usize = 64 << 10;

/// What one read may bring for a service apart under a declared framing, in bytes: that many messages at most, about
/// 600 KiB in all its queues.
const APART_READ_MAX: usize = 4 << 10;

impl Session {
    /// How much one read may bring. A service apart is told each message by itself, and a message of one byte takes
    /// a hundred in its queues: so it is told of fewer at a time. (A chunk is one message, however long.)
    pub(super) fn new_max(&self) -> usize {
        match self.handler {
            ActiveHandler::Spawned(_) if self.frames.inbound != Framing::Chunk => APART_READ_MAX,
            _ => usize::MAX,
        }
    }

    /// The peer and a service apart, by turns who is asked first.
    pub(super) fn poll_receive_or_handler_output(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.receive_first = !self.receive_first;
        let steps = if self.receive_first {
            [Self::poll_receive, Self::poll_handler_output]
        } else {
            [Self::poll_handler_output, Self::poll_receive]
        };
        for step in steps {
            if let Poll::Ready(turn) = step(self, cx) {
                return Poll::Ready(turn);
            }
        }
        Poll::Pending
    }

    /// Takes what a service apart says, unless the peer is too far behind with hearing it.
    fn poll_handler_output(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let ActiveHandler::Spawned(handler) = &mut self.handler else {
            return Poll::Pending;
        };
        if self.outbox.len() >= UNSENT_MAX {
            return Poll::Pending;
        }
        match ready!(handler.poll_output(cx)) {
            HandlerOutput::Said(said) => {
                let mut sent = Ok(());
                for Reply { answers, bytes } in handler.order(said) {
                    let Ok(bytes) = bytes else {
                        return Poll::Ready(ControlFlow::Break(CloseReason::ReplyTooLong));
                    };
                    let reply_offset = self.tally.said;
                    let left = self.say(cx, &bytes);
                    sent = sent.and(left);
                    self.record_one(answers.as_ref(), Outcome::Ok, &bytes, reply_offset);
                }
                if self.outbox.is_empty() {
                    self.sent_at = Instant::now();
                }
                Poll::Ready(match sent {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break(broken(&error)),
                })
            }
            HandlerOutput::Done(Err(error)) => {
                tracing::warn!(conversation = self.conversation, "{error}");
                Poll::Ready(ControlFlow::Break(CloseReason::ServiceFailed))
            }
            HandlerOutput::Done(Ok(())) => {
                Poll::Ready(ControlFlow::Break(match self.draining_from {
                    _ if self.half_closed => self.closed(),
                    Some(_) => CloseReason::ServerStopped,
                    None => CloseReason::ServiceClosed,
                }))
            }
        }
    }

    /// Records one exchange of a service apart: a message with its answer, or either alone.
    pub(super) fn record_one(
        &mut self,
        message: Option<&Pending>,
        outcome: Outcome,
        said: &[u8],
        reply_offset: u64,
    ) {
        self.tally.exchanges += 1;
        if self.journal.is_active() {
            let received_at = message.map_or_else(Instant::now, |message| message.heard);
            let told = RunMeta {
                conversation: self.conversation,
                n: self.tally.exchanges,
                at: self.clock.wall(received_at),
                latency_ns: received_at.elapsed().as_nanos() as u64,
                reads: message.map_or(0, |message| message.reads),
                reply_offset,
            };
            self.journal.exchange(
                told,
                outcome,
                message.map_or(&[], |message| &message.raw),
                said,
            );
        }
    }
}
