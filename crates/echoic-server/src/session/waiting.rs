//! What a conversation waits for: that it may hear more, that the peer takes what is unsent, that the record has it, a
//! deadline, the stop signal.

use std::{
    mem,
    ops::ControlFlow,
    task::{Context, Poll, ready},
};

use echoic_core::{ending::CloseReason, limits::Limits};
use echoic_recorder::NotKept;
use tokio::time::Instant;

use super::{ActiveHandler, Session, Turn, broken};
use crate::wait::Wakeup;

impl Session {
    /// As [`Self::poll_ready_to_hear`]. The peer's time to finish a message stands still while we do not listen.
    pub(super) fn poll_may_receive(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let may = self.poll_ready_to_hear(cx);
        match self.read_paused_since {
            None if may.is_pending() => self.read_paused_since = Some(Instant::now()),
            Some(since) if may.is_ready() => {
                self.read_paused_since = None;
                let begun = &mut self.message_since;
                *begun = begun.map(|begun| begun + since.elapsed());
            }
            _ => {}
        }
        may
    }

    /// Whether anything may be heard now, and how much in one read: not while a reply is unsent, nor while the service
    /// or the record is behind by more than it may be.
    fn poll_ready_to_hear(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        match &mut self.handler {
            ActiveHandler::Inline(_) if self.input_drained || !self.outbox.is_empty() => {
                return Poll::Pending;
            }
            ActiveHandler::Inline(_) => {}
            ActiveHandler::Spawned(handler) => {
                ready!(handler.poll_told(cx));
                if self.half_closed || self.input_drained {
                    handler.close_input();
                    return Poll::Pending;
                }
                if handler.owes_answers() {
                    return Poll::Pending;
                }
            }
        }
        if self.draining_from.is_some() {
            return Poll::Ready(self.new_max());
        }
        let room = ready!(self.journal.poll_room(cx));
        Poll::Ready(room.min(self.new_max()))
    }

    /// Sends what is unsent, once it is kept if that was asked for.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.outbox.is_empty() {
            return Poll::Pending;
        }
        let free = match ready!(self.poll_free(cx)) {
            Ok(free) => free,
            Err(NotKept) => return Poll::Ready(ControlFlow::Break(CloseReason::StoreFailed)),
        };
        match ready!(self.outbox.poll_send(cx, &mut self.link, free)) {
            Ok(sent) => {
                self.tally.sent += sent as u64;
                self.sent_at = Instant::now();
                Poll::Ready(ControlFlow::Continue(()))
            }
            Err(error) => Poll::Ready(ControlFlow::Break(broken(&error))),
        }
    }

    /// How much of what is unsent may leave: with strict durability, what had been said when the wait for the record
    /// began. More may be said all the time, and has to wait its turn.
    fn poll_free(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, NotKept>> {
        if !self.journal.holds_replies() {
            return Poll::Ready(Ok(self.outbox.len()));
        }
        if self.kept <= self.tally.sent {
            let told = (self.journal.epoch(), self.tally.said);
            let (epoch, said) = *self.awaited.get_or_insert(told);
            ready!(self.journal.poll_kept(cx, epoch))?;
            self.awaited = None;
            self.kept = said;
            self.sent_at = Instant::now(); // only now is it up to the peer
        }
        Poll::Ready(Ok((self.kept - self.tally.sent) as usize))
    }

    /// Nothing moves: waits for a deadline or the stop signal.
    pub(super) fn poll_wakeup(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let inline = matches!(self.handler, ActiveHandler::Inline(_));
        if self.input_drained && inline && self.outbox.is_empty() {
            return Poll::Ready(ControlFlow::Break(CloseReason::ServerStopped));
        }
        let (deadline, overdue) = self.deadline();
        let idle = !mem::take(&mut self.busy);
        Poll::Ready(match ready!(self.wait.poll(cx, deadline, idle)) {
            Wakeup::Drain => ControlFlow::Continue(()),
            Wakeup::Deadline => ControlFlow::Break(overdue),
        })
    }

    /// The nearest deadline, and how the conversation ends when it passes.
    pub(super) fn deadline(&self) -> (Instant, CloseReason) {
        let Limits {
            idle_timeout,
            message_timeout,
            write_timeout,
            ..
        } = *self.limits;
        if self.awaited.is_some() {
            // The recorder has less patience; this is for the case that it is gone.
            return (
                self.sent_at.max(self.received_at) + idle_timeout,
                CloseReason::StoreFailed,
            );
        }
        if !self.outbox.is_empty() {
            return (self.sent_at + write_timeout, CloseReason::WriteTimeout);
        }
        match self.message_since {
            Some(since) if self.read_paused_since.is_none() => {
                (since + message_timeout, CloseReason::MessageTimeout)
            }
            _ => (
                self.received_at.max(self.sent_at) + idle_timeout,
                CloseReason::IdleTimeout,
            ),
        }
    }
}
