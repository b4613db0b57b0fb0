//! How a conversation ends once there is a reason to: what is left is sent, our half of the stream is ended, and the peer
//! is given time to take it all.

use std::{
    future::poll_fn,
    io,
    ops::ControlFlow,
    task::{Context, Poll, ready},
};

use echoic_core::ending::CloseReason;
use tokio::time::Instant;

use super::{SCRATCH, Session, Turn, broken};
use crate::wait::Wakeup;

/// How many times `--linger-timeout` a peer that keeps sending into the void can stretch the end.
const LINGER_STRETCH: u32 = 10;

impl Session {
    /// Sends what is left to be sent, ends our half of the stream, and gives the peer time to take it all: closing
    /// while it still sends would make the kernel throw away what it has not read yet.
    ///
    /// How it ended is not settled before all that was said is sent: who is cut until then was cut, whatever came first.
    /// That the kernel took it all is not yet that the peer has it: one that resets while we wait for it to go has
    /// perhaps not heard the service out, and is told of as such. (What ended it otherwise did so before.)
    pub(super) async fn part(&mut self, mut reason: CloseReason) {
        if !matches!(
            reason,
            CloseReason::PeerReset
                | CloseReason::SystemError
                | CloseReason::WriteTimeout
                | CloseReason::StoreFailed
        ) {
            let flushed = poll_fn(|cx| self.poll_flush(cx)).await;
            if let ControlFlow::Break(otherwise) = flushed {
                reason = otherwise;
            }
        }
        self.reason = Some(reason);
        if self.half_closed && self.link.closes_on_drop() {
            return;
        }
        let finished = poll_fn(|cx| self.link.poll_finish(cx));
        let finish = self.timers.timeout(self.limits.linger_timeout, finished);
        let gone = match finish.await {
            Ok(Ok(())) if !self.half_closed => self.linger().await,
            Ok(finished) => finished,
            Err(_) => Ok(()),
        };
        if let (CloseReason::ServiceClosed, Err(error)) = (reason, gone)
            && broken(&error) == CloseReason::PeerReset
        {
            self.reason = Some(CloseReason::PeerReset);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        while !self.outbox.is_empty() {
            let turn = match self.poll_send(cx) {
                Poll::Ready(turn) => turn,
                Poll::Pending => {
                    let (deadline, overdue) = self.deadline();
                    match ready!(self.wait.poll(cx, deadline, true)) {
                        Wakeup::Drain => ControlFlow::Continue(()),
                        Wakeup::Deadline => ControlFlow::Break(overdue),
                    }
                }
            };
            if turn.is_break() {
                return Poll::Ready(turn);
            }
        }
        Poll::Ready(ControlFlow::Continue(()))
    }

    /// Reads what the peer still sends, and drops it, until it has nothing more to say or says nothing for a while. An
    /// error is how the connection ended.
    async fn linger(&mut self) -> io::Result<()> {
        let patience = self.limits.linger_timeout;
        // Who does not read gains nothing by a longer wait.
        let stretch = if self.reason == Some(CloseReason::WriteTimeout) {
            1
        } else {
            LINGER_STRETCH
        };
        let mut end = Instant::now() + patience * stretch;
        let mut hurried = false;
        loop {
            if self.drain.has_started() && !hurried {
                hurried = true;
                end = end.min(Instant::now() + patience);
            }
            let read = poll_fn(|cx| {
                SCRATCH.with_borrow_mut(|scratch| self.link.poll_read(cx, &mut scratch.room))
            });
            let deadline = end.min(Instant::now() + patience);
            match self.timers.timeout_at(deadline, read).await {
                Ok(Ok(n)) if n > 0 => self.tally.discarded += n as u64,
                Ok(over) => return over.map(|_| ()),
                Err(_) => return Ok(()),
            }
        }
    }
}
