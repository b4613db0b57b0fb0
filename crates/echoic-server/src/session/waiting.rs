//! What a conversation waits for: that it may read, that the peer takes what is unsent, that the store has it, a deadline,
//! the stop signal.

use std::{
    io,
    ops::ControlFlow,
    task::{Context, Poll, ready},
};

use echoic_core::{ending::CloseReason, limits::Limits};
use echoic_recorder::NotCommitted;
use echoic_wire::{Look, SendProgress};
use tokio::time::Instant;

use super::{ActiveHandler, Phase, Session, Turn, socket_failed};
use crate::wait::Wakeup;

/// The moments that deadlines are counted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamps {
    /// When bytes were last received.
    pub(super) received_at: Instant,
    /// When the peer last took bytes, or could first take those that are unsent.
    pub(super) sent_at: Instant,
    /// Since when a message has been unfinished, without the time in which reading was paused.
    pub(super) message_since: Option<Instant>,
    /// Since when reading has been paused: a reply is unsent, or the handler or the record is behind.
    pub(super) read_paused_since: Option<Instant>,
    /// What the peer had not taken when that was last looked at.
    pub(super) progress: SendProgress,
}

impl Timestamps {
    pub(super) fn start(now: Instant) -> Self {
        Self {
            received_at: now,
            sent_at: now,
            message_since: None,
            read_paused_since: None,
            progress: SendProgress::default(),
        }
    }

    /// The peer's time to finish a message stands still while reading is paused.
    #[inline]
    fn pause_or_resume(&mut self, pause: bool) {
        match self.read_paused_since {
            None if pause => self.read_paused_since = Some(Instant::now()),
            Some(since) if !pause => self.resume(since),
            _ => {}
        }
    }

    /// Moves the start of an unfinished message by the time in which reading was paused.
    fn resume(&mut self, since: Instant) {
        self.read_paused_since = None;
        let begun = &mut self.message_since;
        *begun = begun.map(|begun| begun + since.elapsed());
    }
}

/// With strict durability: which replies may leave. Offsets are in all the bytes produced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CommitGate {
    awaited: Option<AwaitedCommit>,
    /// The offset up to which all is committed.
    committed_offset: u64,
}

#[derive(Clone, Copy, Debug)]
struct AwaitedCommit {
    epoch: u64,
    /// The offset up to which replies may leave once the epoch is committed.
    offset: u64,
}

impl Session {
    /// Ready, with how much one read may bring, when reading is allowed.
    pub(super) fn poll_read_limit(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let may = self.poll_unpaused_read_limit(cx);
        self.timestamps.pause_or_resume(may.is_pending());
        may
    }

    /// Pending after the end of the input, while a reply of an inline handler is unsent, and while a spawned handler or
    /// the record is behind by more than it may be.
    fn poll_unpaused_read_limit(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        match &mut self.handler {
            ActiveHandler::Inline(_) | ActiveHandler::Dismissed(_)
                if self.phase == Phase::InputDrained || !self.outbox.is_empty() =>
            {
                return Poll::Pending;
            }
            ActiveHandler::Inline(_) | ActiveHandler::Dismissed(_) => {}
            ActiveHandler::Spawned(handler) => {
                if self.phase.input_is_over() {
                    handler.end_input();
                    return Poll::Pending;
                }
                ready!(handler.poll_ready(cx));
            }
        }
        if self.phase.is_draining() {
            return Poll::Ready(usize::MAX);
        }
        self.journal.poll_read_budget(cx)
    }

    /// Sends what is unsent, once it is committed if that was asked for. Pending without a waker if nothing is unsent.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.outbox.is_empty() {
            return Poll::Pending;
        }
        let free = match ready!(self.poll_releasable(cx)) {
            Ok(free) => free,
            Err(NotCommitted) => return Poll::Ready(ControlFlow::Break(CloseReason::StoreFailed)),
        };
        match ready!(self.outbox.poll_send(cx, &mut self.link, free)) {
            Ok(sent) => {
                self.tally.sent += sent as u64;
                self.timestamps.sent_at = Instant::now();
                Poll::Ready(ControlFlow::Continue(()))
            }
            Err(error) => Poll::Ready(ControlFlow::Break(socket_failed(&error))),
        }
    }

    /// How much of what is unsent may leave: with strict durability, what had been recorded when the wait for the commit
    /// began. What is recorded during the wait needs the next one.
    fn poll_releasable(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, NotCommitted>> {
        if !self.journal.holds_replies() {
            return Poll::Ready(Ok(self.outbox.len()));
        }
        if self.commit_gate.committed_offset <= self.tally.sent {
            let recorded = self.recorded_bytes();
            if self.commit_gate.awaited.is_none() && recorded <= self.tally.sent {
                return Poll::Pending; // a spawned handler has to complete its reply first
            }
            let awaited = AwaitedCommit {
                epoch: self.journal.epoch(),
                offset: recorded,
            };
            let AwaitedCommit { epoch, offset } = *self.commit_gate.awaited.get_or_insert(awaited);
            ready!(self.journal.poll_committed(cx, epoch))?;
            self.commit_gate.awaited = None;
            self.commit_gate.committed_offset = offset;
            self.timestamps.sent_at = Instant::now(); // only now can the peer take it
        }
        Poll::Ready(Ok(
            (self.commit_gate.committed_offset - self.tally.sent) as usize
        ))
    }

    /// Nothing else is ready: waits for a command, a deadline or the stop signal.
    pub(super) fn poll_wakeup(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.has_commands()
            && let Poll::Ready(turn) = self.poll_commands(cx)
        {
            return Poll::Ready(turn);
        }
        let is_spawned = matches!(self.handler, ActiveHandler::Spawned(_));
        if self.phase == Phase::InputDrained && !is_spawned && self.outbox.is_empty() {
            return Poll::Ready(ControlFlow::Break(self.drain.close_reason()));
        }
        let (deadline, overdue) = self.deadline();
        Poll::Ready(match ready!(self.wait.poll(cx, deadline)) {
            Wakeup::Drain => ControlFlow::Continue(()),
            Wakeup::Deadline => self.expire(overdue),
        })
    }

    /// A deadline has passed: the conversation ends, unless its peer is still taking bytes. That the kernel has not called
    /// the socket writable does not mean that the peer has stopped reading.
    pub(super) fn expire(&mut self, overdue: CloseReason) -> Turn {
        let timeout = self.limits.write_timeout;
        let has_progressed = match overdue {
            CloseReason::IdleTimeout => {
                let was_in_flight = self.is_in_flight();
                self.look() == Look::Taken && (was_in_flight || self.is_in_flight())
            }
            CloseReason::WriteTimeout => match self.look() {
                Look::Taken => true,
                _ if Instant::now() < self.timestamps.sent_at + timeout => true,
                Look::Unchanged => false,
                Look::Unknown | Look::Empty => return self.try_send(),
            },
            _ => false,
        };
        if has_progressed {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(overdue)
        }
    }

    /// Whether more was sent than the peer's system has room for, at the last look.
    fn is_in_flight(&self) -> bool {
        let queue = self.timestamps.progress.queue();
        queue.is_some_and(|queue| queue.unacknowledged > 0)
    }

    /// Looks at what the peer has not taken; if it has taken some of it, deadlines are counted from now.
    pub(super) fn look(&mut self) -> Look {
        let clocks = &mut self.timestamps;
        clocks.progress.look(&self.link, &mut clocks.sent_at)
    }

    /// Sends what the kernel takes although it has not called the socket writable; if that is nothing, the peer has
    /// stopped reading.
    fn try_send(&mut self) -> Turn {
        let limit = if self.journal.holds_replies() {
            self.commit_gate
                .committed_offset
                .saturating_sub(self.tally.sent) as usize
        } else {
            self.outbox.len()
        };
        match self.outbox.try_send(&mut self.link, limit) {
            Ok(sent @ 1..) => {
                self.tally.sent += sent as u64;
                self.timestamps.sent_at = Instant::now();
                ControlFlow::Continue(())
            }
            Ok(0) => ControlFlow::Break(CloseReason::WriteTimeout),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ControlFlow::Break(CloseReason::WriteTimeout)
            }
            Err(error) => ControlFlow::Break(socket_failed(&error)),
        }
    }

    /// The nearest deadline, and why the conversation ends when it passes.
    pub(super) fn deadline(&self) -> (Instant, CloseReason) {
        let Limits {
            idle_timeout,
            message_timeout,
            write_timeout,
            ..
        } = *self.limits;
        let clocks = &self.timestamps;
        let idle = || clocks.sent_at.max(clocks.received_at) + idle_timeout;
        if self.commit_gate.awaited.is_some() {
            // The recorder gives up earlier; this is for the case that it is gone.
            return (idle(), CloseReason::StoreFailed);
        }
        if !self.outbox.is_empty() && !self.awaits_record() {
            let look = clocks.progress.next_look(clocks.sent_at, write_timeout);
            let end = clocks.sent_at + write_timeout;
            return (look.min(end), CloseReason::WriteTimeout);
        }
        match clocks.message_since {
            Some(since) if clocks.read_paused_since.is_none() => {
                (since + message_timeout, CloseReason::MessageTimeout)
            }
            _ => (idle(), CloseReason::IdleTimeout),
        }
    }

    /// Whether what is unsent under strict durability is not even recorded: a spawned handler has to complete its reply.
    fn awaits_record(&self) -> bool {
        self.journal.holds_replies() && self.recorded_bytes() <= self.tally.sent
    }
}
